"""What the project's claims about speed are made with: ratios within one run."""
