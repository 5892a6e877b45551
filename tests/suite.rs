//! The executables, as Pacemaker, its tools and people use them.

mod fencing;
mod metadata;
mod namespaces;
mod stacks;
