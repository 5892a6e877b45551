//! A BMC to talk to by hand.

fn main() {}
