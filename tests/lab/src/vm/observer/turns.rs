//! What the machine room did to the power of nodes, from its log.

/// What the machine room did to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Took its power.
    Off,
    /// Gave it power.
    On,
    /// Pressed its reset button.
    Reset,
    /// Found it without power, some time after it had switched itself off.
    Gone,
    /// Let it stand still.
    Freeze,
    /// Let it go on.
    Thaw,
}

/// Something that the machine room did.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Seconds since 1970. Power ended, or a node stood still, not before it; a node went on not before it.
    pub at: f64,
    /// To whom.
    pub node: String,
    /// What.
    pub deed: Deed,
}

/// The room's log, as far as it is about power.
pub fn turns(log: &str) -> Vec<Turn> {
    log.lines().filter_map(turn).collect()
}

fn turn(line: &str) -> Option<Turn> {
    let (at, what) = line.split_once(' ')?;
    let (node, what) = what.split_once(' ')?;
    let deed = match what {
        "power on" => Deed::On,
        "frozen" => Deed::Freeze,
        "thawed" => Deed::Thaw,
        "has switched itself off" => Deed::Gone,
        _ if what.starts_with("power off for ") => Deed::Off,
        _ if what.starts_with("reset for ") => Deed::Reset,
        _ => return None,
    };
    Some(Turn {
        at: at.parse().ok()?,
        node: node.to_owned(),
        deed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_s_log() {
        let log = "\
1795246348.100 room open
1795246349.000 all guests restored
1795246350.250 n1 power off for bmc
1795246350.100 n2 frozen
1795246351.000 n1 power off for lab: was off
1795246352.000 n1 power on
1795246353.000 n2 thawed
1795246354.000 n2 reset for lab
1795246355.000 client has switched itself off
1795246356.000 n1 cut off the cluster network
1795246356.000 bmc of n1: cut
n1 power on
";
        let found: Vec<(f64, String, Deed)> = turns(log)
            .into_iter()
            .map(|turn| (turn.at - 1795246300.0, turn.node, turn.deed))
            .collect();
        let expected = [
            (50.25, "n1", Deed::Off),
            (50.1, "n2", Deed::Freeze),
            (51.0, "n1", Deed::Off),
            (52.0, "n1", Deed::On),
            (53.0, "n2", Deed::Thaw),
            (54.0, "n2", Deed::Reset),
            (55.0, "client", Deed::Gone),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((at, node, deed), (when, who, what)) in found.iter().zip(expected) {
            assert!((at - when).abs() < 1e-6, "{at}");
            assert_eq!((node.as_str(), *deed), (who, what));
        }
    }
}
