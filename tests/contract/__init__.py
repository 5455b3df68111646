"""What two places must say alike: types and docs, access and role, claims and tests."""
