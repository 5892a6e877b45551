//! The line to the collector: nothing counts before it is answered.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a collector may take, which does nothing but append a line to a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a collector.
pub struct Link {
    to: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Link {
    /// Connects.
    pub fn connect(to: SocketAddr) -> Result<Link> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("there is no collector at {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = BufReader::new(stream);
        Ok(Link { to, stream })
    }

    /// Says a line, and waits until the collector has kept it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        self.ask(line).with_context(|| {
            let begin: Vec<&str> = line.split(' ').take(2).collect();
            format!(
                "the collector at {} was told \"{}\"",
                self.to,
                begin.join(" ")
            )
        })
    }

    fn ask(&mut self, line: &str) -> Result<()> {
        let line = format!("{}\n", line.replace('\n', " "));
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            bail!("it closed the connection");
        }
        if answer != "ok\n" {
            bail!("it answered {answer:?}");
        }
        Ok(())
    }
}
