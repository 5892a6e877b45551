//! A BMC to talk to by hand, with any client:
//!
//! ```text
//! cargo run -p ipmi --features testing --example bmc -- 9623 admin secret
//! ipmitool -I lanplus -C 17 -H 127.0.0.1 -p 9623 -U admin -P secret chassis power status
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example of its own, not an agent"
)]

use ipmi::testing::{Bmc, Setup};

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, name, password] = words.as_slice() else {
        return Err(std::io::Error::other(
            "expected three words: UDP port, user name, password",
        ));
    };
    let mut setup = Setup::new(name, password);
    setup
        .bind
        .set_port(port.parse().map_err(std::io::Error::other)?);
    setup.hook = Some(Box::new(|on| {
        println!("power {}", if on { "on" } else { "off" });
    }));
    let bmc = Bmc::bind(setup)?;
    println!("a BMC answers at {}; Enter ends it", bmc.address());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
