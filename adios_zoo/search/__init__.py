"""What features are asked: nearest neighbours, and k-NN votes.

Where features come from is features/.
"""
