"""What follows an activation: the findings, the verdict, and the way back."""
