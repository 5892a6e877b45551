//! `ocf:hastor:vip`: a floating IP address.

mod values;
mod vip;

#[cfg(test)]
mod tests;

fn main() -> std::process::ExitCode {
    ocf::main::<vip::Vip>()
}
