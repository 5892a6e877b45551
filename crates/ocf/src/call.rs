//! How an agent was called: its arguments and environment, read once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

/// One call of an agent.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The action, such as `start`; empty if none was given.
    pub action: String,
    /// The resource's name (`OCF_RESOURCE_INSTANCE`).
    pub instance: String,
    /// The parameters that were given a value: from `OCF_RESKEY_*`, or from the command line.
    pub params: BTreeMap<String, String>,
    /// The names among them that came from the command line.
    pub typed: Vec<String>,
    /// What Pacemaker says about the call: `OCF_RESKEY_CRM_meta_*`, by the name behind that.
    pub meta: BTreeMap<String, String>,
    /// `OCF_CHECK_LEVEL`.
    pub level: u32,
    /// `OCF_EXIT_REASON_PREFIX`, if Pacemaker set it.
    pub reason_prefix: Option<String>,
    /// Log at this level.
    pub verbosity: Verbosity,
}

/// How much an agent logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Changes, warnings and errors.
    #[default]
    Normal,
    /// Also commands and their answers: `HA_debug=1` or `PCMK_debug=1`.
    Debug,
    /// Everything: `OCF_TRACE_RA=1`, set by `crm_resource -V`.
    Trace,
}

impl Call {
    /// Reads a call off a process's arguments (without the program's name) and environment.
    ///
    /// Pacemaker gives the action as the only argument. By hand, parameters can follow it as
    /// `--name=value` or `--name value`; further words are ignored, as OCF asks for.
    pub fn new(
        mut arguments: impl Iterator<Item = String>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Call> {
        let mut call = Call {
            action: arguments.next().unwrap_or_default(),
            ..Call::default()
        };
        for (name, value) in environment {
            call.read_variable(&name, value);
        }
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                continue;
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match arguments.next_if(|next| !next.starts_with("--")) {
                    Some(value) => (name, value),
                    None => bail!("--{name} needs a value, as --{name}=VALUE"),
                },
            };
            call.typed.push(name.into());
            call.params.insert(name.into(), value);
        }
        for value in call.params.values_mut() {
            // No parameter of any agent means anything by the blanks around it.
            *value = value.trim().to_owned();
        }
        // An empty value is how tools write "not set".
        call.params.retain(|_, value| !value.is_empty());
        Ok(call)
    }

    fn read_variable(&mut self, name: &str, value: String) {
        let on = |value: &str| matches!(value, "1" | "yes" | "true" | "on");
        if let Some(name) = name.strip_prefix("OCF_RESKEY_CRM_meta_") {
            self.meta.insert(name.into(), value);
        } else if let Some(name) = name.strip_prefix("OCF_RESKEY_") {
            self.params.insert(name.into(), value);
        } else {
            match name {
                "OCF_RESOURCE_INSTANCE" => self.instance = value,
                "OCF_CHECK_LEVEL" => self.level = value.trim().parse().unwrap_or(0),
                "OCF_EXIT_REASON_PREFIX" => self.reason_prefix = Some(value),
                "OCF_TRACE_RA" if on(&value) => self.verbosity = Verbosity::Trace,
                "HA_debug" | "PCMK_debug" if on(&value) && self.verbosity == Verbosity::Normal => {
                    self.verbosity = Verbosity::Debug;
                }
                _ => {}
            }
        }
    }

    /// Is this a probe: a monitor that is not repeated, by which Pacemaker finds out whether the
    /// resource happens to run here? Its interval is 0 or, in practice, not given at all.
    pub fn is_probe(&self) -> bool {
        let interval = self.meta.get("interval").map(String::as_str).unwrap_or("0");
        matches!(self.action.as_str(), "monitor" | "status") && matches!(interval, "" | "0")
    }

    /// The resource's name without the number that an instance of a clone has behind a colon: the same for all of them.
    pub fn resource(&self) -> &str {
        self.instance.split(':').next().unwrap_or_default()
    }

    /// The time that Pacemaker gives this action, if it said so.
    pub fn timeout(&self) -> Option<Duration> {
        let millis: u64 = self.meta.get("timeout")?.trim().parse().ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// A number among the meta attributes, such as `clone_max`.
    pub fn meta_number(&self, name: &str) -> Option<u64> {
        self.meta.get(name)?.trim().parse().ok()
    }

    /// A yes or no among the meta attributes, such as `globally_unique`; not given is no.
    pub fn meta_flag(&self, name: &str) -> bool {
        self.meta
            .get(name)
            .is_some_and(|value| value.trim() == "true" || value.trim() == "1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Call> {
        Call::new(
            arguments.iter().map(|text| text.to_string()),
            environment
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        )
    }

    #[test]
    fn pacemaker_gives_parameters_by_the_environment() {
        let call = call(
            &["monitor"],
            &[
                ("OCF_RESKEY_ip", "192.0.2.1"),
                ("OCF_RESKEY_nic", " "),
                ("OCF_RESKEY_cidr_netmask", "24 \n"),
                ("OCF_RESKEY_CRM_meta_timeout", "20000"),
                ("OCF_RESKEY_CRM_meta_interval", "10000"),
                ("OCF_RESOURCE_INSTANCE", "p_vip"),
                ("OCF_CHECK_LEVEL", "10"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(
            call.params,
            BTreeMap::from([
                ("cidr_netmask".into(), "24".into()),
                ("ip".into(), "192.0.2.1".into())
            ])
        );
        assert_eq!((call.instance.as_str(), call.level), ("p_vip", 10));
        assert_eq!(call.timeout(), Some(Duration::from_secs(20)));
        assert!(!call.is_probe());
    }

    #[test]
    fn a_person_gives_them_on_the_command_line() {
        let call = call(&["start", "--ip=192.0.2.1", "--nic", "eth0", "extra"], &[]).unwrap();
        assert_eq!(call.params["ip"], "192.0.2.1");
        assert_eq!(call.params["nic"], "eth0");
        assert_eq!(call.params.len(), 2);
        let error = super::Call::new(
            ["start".to_string(), "--ip".to_string()].into_iter(),
            std::iter::empty(),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "--ip needs a value, as --ip=VALUE"
        );
    }

    #[test]
    fn a_monitor_without_interval_is_a_probe() {
        assert!(call(&["monitor"], &[]).unwrap().is_probe());
        assert!(
            call(&["monitor"], &[("OCF_RESKEY_CRM_meta_interval", "0")])
                .unwrap()
                .is_probe()
        );
        assert!(!call(&["start"], &[]).unwrap().is_probe());
        assert_eq!(call(&[], &[]).unwrap().action, "");
    }

    #[test]
    fn all_instances_of_a_clone_are_one_resource() {
        for instance in ["p_target:0", "p_target:1", "p_target"] {
            let call = call(&[], &[("OCF_RESOURCE_INSTANCE", instance)]).unwrap();
            assert_eq!(call.resource(), "p_target");
        }
    }

    #[test]
    fn tracing_wins_over_debugging() {
        let call = call(&["start"], &[("OCF_TRACE_RA", "1"), ("HA_debug", "1")]).unwrap();
        assert_eq!(call.verbosity, Verbosity::Trace);
    }
}
