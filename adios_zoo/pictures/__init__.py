"""Pictures for people: masks on photographs, contact sheets, the demonstration."""
