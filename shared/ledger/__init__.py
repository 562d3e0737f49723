"""Money: prices, the cost of an attempt, and the books every attempt is written in."""
