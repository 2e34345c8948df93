"""What papers claim, each with the sweep that tests it, the rule of its verdict, and CLAIMS.md with what came out."""
