"""What verification and identification found: enums and numbers. The words are in `report`.

- `identification.py`: what a file is, and what its layers are
- `verification.py`: the checks of a normalized network
"""
