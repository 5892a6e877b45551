//! Reading what `corosync-quorumtool -s` says.

use anyhow::{Context, Result, ensure};

/// A node's partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Whether it may act.
    pub quorate: bool,
    /// Nodes in it.
    pub votes: usize,
}

impl Quorum {
    /// Reads the text.
    pub fn parse(text: &str) -> Result<Quorum> {
        let word = |key: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(key));
            value
                .map(str::trim)
                .with_context(|| format!("corosync-quorumtool: no {key:?} in {text:?}"))
        };
        let votes = word("Total votes:")?;
        Ok(Quorum {
            quorate: word("Quorate:")? == "Yes",
            votes: votes
                .parse()
                .with_context(|| format!("corosync-quorumtool: {votes:?} votes"))?,
        })
    }

    /// An error if it is not as expected.
    pub fn expect(&self, quorate: bool, votes: usize) -> Result<()> {
        let expected = Quorum { quorate, votes };
        ensure!(*self == expected, "found {self:?}, expected {expected:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_votes_and_quorum() {
        let text = "Quorum information\nNodes:            1\nQuorate:          No\n\nTotal votes:      1\nFlags:            \n";
        let quorum = Quorum::parse(text).unwrap();
        assert!(quorum.expect(false, 1).is_ok());
        assert_eq!(
            quorum.expect(true, 3).unwrap_err().to_string(),
            "found Quorum { quorate: false, votes: 1 }, expected Quorum { quorate: true, votes: 3 }"
        );
        assert!(Quorum::parse("").is_err());
    }
}
