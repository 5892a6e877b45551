//! The executables, as Pacemaker, its tools and people use them.

mod metadata;
mod namespaces;
