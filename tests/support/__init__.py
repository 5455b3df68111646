"""What tests share: examples, generators, checkers. Nothing here is a test."""
