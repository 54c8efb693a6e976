"""What features are asked: nearest neighbours, and k-NN votes.  Features themselves come from features/."""
