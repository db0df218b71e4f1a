"""What a network computes and the energy that takes: counted on its real operators, priced as published."""
