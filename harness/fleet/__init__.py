"""Many runs: every kernel with every scenario on every engine, night after night, here or on a lab."""
