//! `ocf:hastor:lio-target`.

#![allow(
    dead_code,
    unused_imports,
    reason = "what is defined is not put into the kernel yet"
)]

mod definition;
mod names;
mod wanted;

fn main() {}
