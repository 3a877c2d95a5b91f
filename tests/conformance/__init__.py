"""What every vendor must pass: golden bytes, every status, every fault of its simulator, one login, no secret told."""
