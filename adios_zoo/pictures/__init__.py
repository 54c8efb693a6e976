"""Pictures for people: masks on photographs, contact sheets, the demonstration.

The pictures of a run are in train/report/.
"""
