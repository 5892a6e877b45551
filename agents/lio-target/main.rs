//! `ocf:hastor:lio-target`: an iSCSI target of the kernel's own (LIO), with everything behind it.

mod alua;
mod definition;
mod depth;
mod device;
mod digest;
mod durable;
mod expected;
mod names;
mod own;
mod plan;
mod reservations;
mod source;
mod steps;
mod target;
mod values;
mod wanted;

#[cfg(test)]
mod tests;

fn main() -> std::process::ExitCode {
    ocf::main::<target::LioTarget>()
}
