//! The line to the collector: nothing counts before it is answered.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A connection to a collector.
pub struct Link {
    to: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Link {
    /// Connects. `patience`: how long the collector may take to do that, and to keep a line.
    pub fn connect(to: SocketAddr, patience: Duration) -> Result<Link> {
        let stream = TcpStream::connect_timeout(&to, patience)
            .with_context(|| format!("there is no collector at {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let stream = BufReader::new(stream);
        Ok(Link { to, stream })
    }

    /// Says a line, and waits until the collector has kept it; when that was, seconds since 1970 by the collector's clock.
    pub fn tell(&mut self, line: &str) -> Result<f64> {
        self.ask(line).with_context(|| {
            let begin: Vec<&str> = line.split(' ').take(2).collect();
            format!(
                "the collector at {} was told \"{}\"",
                self.to,
                begin.join(" ")
            )
        })
    }

    fn ask(&mut self, line: &str) -> Result<f64> {
        let line = format!("{}\n", line.replace('\n', " "));
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            bail!("it closed the connection");
        }
        let time = answer.trim_end().strip_prefix("ok ");
        time.and_then(|time| time.parse().ok())
            .with_context(|| format!("it answered {answer:?}, expected \"ok\" and a time"))
    }
}
