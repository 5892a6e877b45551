//! Which attempt to open a session comes after one that was refused.
//!
//! Nothing that refuses an attempt is signed, so nothing is taken for final that was heard only
//! once: it may be a damaged datagram, or a BMC whose first proof is wrong now and then
//! (ipmitool issue 154).

use std::time::Duration;

use crate::config::Privilege;
use crate::error::{Error, ErrorKind};
use crate::handshake::{Proposal, Refusal, RefusalKind};
use crate::suite::Suite;

/// How long to wait for a free session before asking again.
const LATER: Duration = Duration::from_millis(500);

/// The attempts so far.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    suites: Vec<Suite>,
    suite: usize,
    privilege: Privilege,
    or_operator: bool,
    explicit: bool,
    name_only: bool,
    /// Refusals of each sort.
    by_suite: usize,
    by_open: usize,
    by_role: Vec<Error>,
    finals: Vec<Error>,
}

/// What to do after a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Again,
    /// Again after a while; at the deadline, this was the reason.
    Later(ErrorKind, Duration),
    GiveUp(Error),
}

impl Plan {
    pub(crate) fn new(suites: Vec<Suite>, privilege: Privilege, or_operator: bool) -> Plan {
        Plan {
            suites,
            suite: 0,
            privilege,
            or_operator: or_operator && privilege > Privilege::Operator,
            explicit: explicit(privilege),
            name_only: true,
            by_suite: 0,
            by_open: 0,
            by_role: Vec::new(),
            finals: Vec::new(),
        }
    }

    /// What to ask for now. None only if there is no suite.
    pub(crate) fn proposal(&self) -> Option<Proposal> {
        Some(Proposal {
            suite: *self.suites.get(self.suite)?,
            privilege: self.privilege,
            explicit: self.explicit,
            name_only: self.name_only,
        })
    }

    /// The same again, for a session like the one just opened.
    pub(crate) fn fresh(&self) -> Plan {
        Plan {
            by_suite: 0,
            by_open: 0,
            by_role: Vec::new(),
            finals: Vec::new(),
            ..self.clone()
        }
    }

    /// Takes in a refusal of the attempt of [`Plan::proposal`].
    pub(crate) fn refused(&mut self, refusal: &Refusal) -> Next {
        let error = |kind: ErrorKind| kind.because(refusal.message.clone());
        match refusal.kind {
            RefusalKind::Later(kind) => Next::Later(kind, LATER),
            RefusalKind::Suite => {
                self.by_suite += 1;
                if self.by_suite >= 2 * self.suites.len() {
                    return Next::GiveUp(self.no_common_suite(refusal));
                }
                self.other_suite();
                Next::Again
            }
            RefusalKind::OpenPrivilege => {
                self.by_open += 1;
                self.explicit = !self.explicit;
                // A BMC may not have meant the privilege, but an algorithm that it does not know.
                if self.by_open % 2 == 0 {
                    self.other_suite();
                }
                if self.by_open < (2 * self.suites.len()).max(3) {
                    return Next::Again;
                }
                self.lower(error(ErrorKind::PrivilegeTooLow))
            }
            RefusalKind::Role(kind) => {
                self.by_role.push(error(kind));
                if self.by_role.len() < 3 {
                    self.name_only = !self.name_only;
                    return Next::Again;
                }
                // By name only is the first and the third of them, and what tells most.
                let first = self.by_role.swap_remove(0);
                // A user who may not be administrator is unknown to some, as one.
                match first.kind() {
                    ErrorKind::PrivilegeTooLow | ErrorKind::UnknownUser => self.lower(first),
                    _ => Next::GiveUp(first),
                }
            }
            RefusalKind::Final(kind) => {
                if let Some(first) = self.finals.iter().find(|it| it.kind() == kind) {
                    return Next::GiveUp(first.clone());
                }
                self.finals.push(error(kind));
                // A BMC may have got one of them wrong.
                self.other_suite();
                Next::Again
            }
        }
    }

    /// Takes in that nobody answers any more: a BMC may drop what it does not know.
    pub(crate) fn unanswered(&mut self) {
        self.other_suite();
    }

    fn other_suite(&mut self) {
        self.suite = (self.suite + 1) % self.suites.len().max(1);
    }

    /// Asks for less from now on, if that is allowed.
    fn lower(&mut self, error: Error) -> Next {
        if !self.or_operator {
            return Next::GiveUp(error);
        }
        *self = Plan {
            suite: self.suite,
            ..Plan::new(self.suites.clone(), Privilege::Operator, false)
        };
        Next::Again
    }

    fn no_common_suite(&self, refusal: &Refusal) -> Error {
        let ids: Vec<String> = self.suites.iter().map(|s| s.id().to_string()).collect();
        let message = match ids.as_slice() {
            [_] => refusal.message.clone(),
            ids => format!(
                "the BMC has none of the cipher suites {}: {}",
                ids.join(" and "),
                refusal.message
            ),
        };
        ErrorKind::NoCommonSuite.because(message)
    }
}

/// As ipmitool does it, which is what BMCs are tested with: an administrator asks Open Session
/// for the highest privilege there is, others name theirs.
fn explicit(privilege: Privilege) -> bool {
    privilege != Privilege::Administrator
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(or_operator: bool) -> Plan {
        let suites = vec![Suite::S17, Suite::S3];
        Plan::new(suites, Privilege::Administrator, or_operator)
    }

    fn refusal(kind: RefusalKind) -> Refusal {
        Refusal {
            kind,
            message: "the BMC says no".to_owned(),
            farewell: None,
        }
    }

    /// The proposals after each refusal of this sort, and the end.
    fn play(mut plan: Plan, kind: RefusalKind) -> (Vec<Proposal>, ErrorKind) {
        let mut tried = Vec::new();
        loop {
            tried.push(plan.proposal().unwrap());
            assert!(tried.len() < 20, "no end: {tried:?}");
            if let Next::GiveUp(error) = plan.refused(&refusal(kind)) {
                return (tried, error.kind());
            }
        }
    }

    #[test]
    fn seventeen_then_three_and_both_again() {
        let (tried, end) = play(plan(true), RefusalKind::Suite);
        let ids: Vec<u8> = tried.iter().map(|proposal| proposal.suite.id()).collect();
        assert_eq!(
            (ids.as_slice(), end),
            (&[17, 3, 17, 3][..], ErrorKind::NoCommonSuite)
        );
    }

    #[test]
    fn a_wrong_password_is_heard_twice() {
        let kind = RefusalKind::Final(ErrorKind::WrongPassword);
        let (tried, end) = play(plan(true), kind);
        assert_eq!((tried.len(), end), (2, ErrorKind::WrongPassword));
        let ids = tried.iter().map(|proposal| proposal.suite.id());
        assert_eq!(ids.collect::<Vec<_>>(), [17, 3]);
    }

    #[test]
    fn unknown_users_are_looked_up_both_ways() {
        let kind = RefusalKind::Role(ErrorKind::UnknownUser);
        let (tried, end) = play(plan(false), kind);
        let by_name: Vec<bool> = tried.iter().map(|proposal| proposal.name_only).collect();
        assert_eq!(
            (by_name.as_slice(), end),
            (&[true, false, true][..], ErrorKind::UnknownUser)
        );
    }

    #[test]
    fn operator_after_administrator_only_if_allowed() {
        let kind = RefusalKind::Role(ErrorKind::PrivilegeTooLow);
        let (tried, end) = play(plan(false), kind);
        assert_eq!((tried.len(), end), (3, ErrorKind::PrivilegeTooLow));
        for error in [ErrorKind::PrivilegeTooLow, ErrorKind::UnknownUser] {
            let (tried, end) = play(plan(true), RefusalKind::Role(error));
            let operator = |proposal: &Proposal| proposal.privilege == Privilege::Operator;
            assert_eq!((tried.len(), end), (6, error));
            assert!(!tried[..3].iter().any(operator) && tried[3..].iter().all(operator));
        }
    }

    #[test]
    fn open_session_is_asked_both_ways() {
        let (tried, end) = play(plan(true), RefusalKind::OpenPrivilege);
        let asked: Vec<(bool, u8)> = tried
            .iter()
            .map(|proposal| (proposal.explicit, proposal.suite.id()))
            .collect();
        let administrator = [(false, 17), (true, 17), (false, 3), (true, 3)];
        let operator = [(true, 17), (false, 17), (true, 3), (false, 3)];
        assert_eq!(asked, [administrator, operator].concat());
        assert_eq!(end, ErrorKind::PrivilegeTooLow);
    }

    #[test]
    fn no_free_session_is_no_verdict() {
        let mut plan = plan(true);
        let kind = ErrorKind::SessionsExhausted;
        let refusal = refusal(RefusalKind::Later(kind));
        for _ in 0..100 {
            assert_eq!(plan.refused(&refusal), Next::Later(kind, LATER));
        }
    }

    proptest! {
        #[test]
        fn every_row_of_refusals_ends(choices in prop::collection::vec(0usize..5, 60)) {
            let kinds = [
                RefusalKind::Suite,
                RefusalKind::OpenPrivilege,
                RefusalKind::Role(ErrorKind::PrivilegeTooLow),
                RefusalKind::Role(ErrorKind::UnknownUser),
                RefusalKind::Final(ErrorKind::WrongPassword),
            ];
            let mut plan = plan(true);
            let end = choices.iter().position(|choice| {
                let next = plan.refused(&refusal(kinds[*choice]));
                assert!(plan.proposal().unwrap().suite.id() >= 3);
                matches!(next, Next::GiveUp(_))
            });
            prop_assert!(end.is_some_and(|end| end < 20), "{:?}", end);
        }
    }
}
