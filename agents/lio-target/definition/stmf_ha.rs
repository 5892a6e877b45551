//! Reading `stmf-ha.conf`. What its keywords mean is described in the [module above](super).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Error, Result, anyhow};

use super::bash::{self, Value, Variables};
use super::draft::{Data, Draft, LunDraft, TargetDraft, UnitDraft};
use super::place::Place;
use super::{default_portal, stmf_ha_iqn, volumes};
use crate::names;
use crate::wanted::Portal;

/// The variables with a meaning of their own; the others belong to what these name.
const KEYWORDS: &str = "default_target_type, default_tpg, target_portal_groups, targets, logical_units, host_groups, target_groups, \
                        views, and for what they name NAME_portals, NAME_type, NAME_tpg, NAME_members, NAME_hg, NAME_tg, NAME_lu_prefix";
/// The name of the target portal group that is always there.
const DEFAULT: &str = "default";

/// What a text says.
pub fn draft(text: &str, place: &Place) -> Result<Draft> {
    let pool = place.pool_name()?;
    // stmf-ha has the pool's name in this variable when it reads the file.
    let variables = bash::parse(text, &[("POOL", pool)])
        .map_err(|error| anyhow!("{}:{}: {}", place.path, error.line, error.reason))?;
    let conf = Conf {
        path: place.path,
        variables,
    };
    let (mut targets, at) = conf.targets(pool)?;
    let hosts = conf.host_groups()?;
    let groups = conf.target_groups(&at)?;
    let views = conf.views(place, &hosts, &groups, targets.len())?;
    let mut units = Vec::new();
    for volume in conf.logical_units(place)? {
        // Of several views that cover a volume stmf-ha keeps the last.
        let Some(view) = views.iter().rev().find(|view| view.covers(&volume)) else {
            continue;
        };
        for target in &view.targets {
            targets[*target].luns.push(LunDraft {
                unit: units.len(),
                number: None,
                hosts: view.hosts.clone(),
            });
        }
        if !view.targets.is_empty() {
            units.push(UnitDraft::of(Data::Volume {
                name: volume,
                read_only: false,
                write_back: false,
            }));
        }
    }
    match conf.variables.unused() {
        Some((name, line)) => Err(anyhow!(
            "{}:{line}: {name} means nothing here; expected {KEYWORDS}",
            place.path
        )),
        None => Ok(Draft {
            units,
            targets,
            numbers_per_host: true,
        }),
    }
}

/// Which units who may see through which targets.
struct View {
    /// Any initiator if None.
    hosts: Option<Vec<String>>,
    targets: Vec<usize>,
    /// All volumes if None.
    prefix: Option<String>,
}

impl View {
    fn covers(&self, volume: &str) -> bool {
        self.prefix
            .as_ref()
            .is_none_or(|prefix| volumes::is_within(volume, prefix))
    }
}

struct Conf<'a> {
    path: &'a str,
    variables: Variables,
}

/// A word of the file, and where it stands.
struct Word<'a> {
    conf: &'a Conf<'a>,
    variable: String,
    line: usize,
    text: String,
}

impl Word<'_> {
    /// An error whose sentence begins with the word.
    fn error(&self, error: impl std::fmt::Display) -> Error {
        anyhow!(
            "{}:{}: {}: \"{}\" {error}",
            self.conf.path,
            self.line,
            self.variable,
            self.text
        )
    }

    fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        read(&self.text).map_err(|error| self.error(error))
    }
}

impl<'a> Conf<'a> {
    /// The words of a variable: the elements of an array as they are, a text split at blanks.
    fn elements(&'a self, variable: &str) -> Vec<Word<'a>> {
        let Some(found) = self.variables.get(variable) else {
            return Vec::new();
        };
        let texts: Vec<String> = match &found.value {
            Value::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Value::Array(elements) => elements
                .iter()
                .filter(|element| !element.is_empty())
                .cloned()
                .collect(),
        };
        texts
            .into_iter()
            .map(|text| Word {
                conf: self,
                variable: variable.to_owned(),
                line: found.line,
                text,
            })
            .collect()
    }

    /// The same, for what has no blanks in it: all is split at them, as stmf-ha does.
    fn words(&'a self, variable: &str) -> Vec<Word<'a>> {
        let split = |word: Word<'a>| {
            let parts: Vec<String> = word.text.split_whitespace().map(str::to_owned).collect();
            parts.into_iter().map(move |text| Word {
                conf: word.conf,
                variable: word.variable.clone(),
                line: word.line,
                text,
            })
        };
        self.elements(variable)
            .into_iter()
            .flat_map(split)
            .collect()
    }

    /// The same, each word once.
    fn set(&'a self, variable: &str) -> Vec<Word<'a>> {
        let mut known = BTreeSet::new();
        let mut words = self.words(variable);
        words.retain(|word| known.insert(word.text.clone()));
        words
    }

    /// The only word of a variable; None if it has no value.
    fn word(&'a self, variable: &str) -> Result<Option<Word<'a>>> {
        let mut words = self.words(variable);
        match (words.pop(), words.is_empty()) {
            (word, true) => Ok(word),
            (Some(second), false) => Err(second.error("is one value too much; expected one")),
            (None, false) => Ok(None),
        }
    }

    /// The targets, and which of them is called what.
    fn targets(&'a self, pool: &str) -> Result<(Vec<TargetDraft>, BTreeMap<String, usize>)> {
        let is_iscsi = |word: Option<Word>| match word {
            Some(word) if word.text != "iscsi" => {
                Err(word.error("is a type of target that there is not; expected iscsi"))
            }
            _ => Ok(()),
        };
        is_iscsi(self.word("default_target_type")?)?;
        let mut portals = BTreeMap::from([(DEFAULT.to_owned(), vec![default_portal()])]);
        let mut first = DEFAULT.to_owned();
        for (index, group) in self.set("target_portal_groups").into_iter().enumerate() {
            if index == 0 {
                first.clone_from(&group.text);
            }
            portals.insert(group.text.clone(), self.portals(&group.text)?);
        }
        let usual = self
            .word("default_tpg")?
            .filter(|group| group.text != DEFAULT);
        let names = match self.set("targets") {
            none if none.is_empty() => vec![pool.to_owned()],
            targets => targets.into_iter().map(|target| target.text).collect(),
        };
        let (mut targets, mut at) = (Vec::new(), BTreeMap::new());
        for name in names {
            is_iscsi(self.word(&format!("{name}_type"))?)?;
            let iqn = stmf_ha_iqn(&name)
                .map_err(|error| anyhow!("{}: target {name}: {error}", self.path))?;
            let own = self.word(&format!("{name}_tpg"))?;
            let listens = match own.as_ref().or(usual.as_ref()) {
                Some(group) => portals.get(&group.text).ok_or_else(|| {
                    group.error("is no target portal group; expected one of target_portal_groups")
                })?,
                None => portals
                    .get(&first)
                    .ok_or_else(|| anyhow!("{}: target portal group {first} is lost", self.path))?,
            };
            at.insert(name, targets.len());
            targets.push(TargetDraft {
                iqn,
                tag: 1,
                portals: listens.clone(),
                attributes: BTreeMap::new(),
                parameters: BTreeMap::new(),
                chap: None,
                luns: Vec::new(),
                initiators: None,
            });
        }
        Ok((targets, at))
    }

    fn portals(&'a self, group: &str) -> Result<Vec<Portal>> {
        let portals: Vec<Portal> = self
            .set(&format!("{group}_portals"))
            .iter()
            .map(|portal| portal.read(names::portal))
            .collect::<Result<_>>()?;
        match portals.is_empty() {
            true => Ok(vec![default_portal()]),
            false => Ok(portals),
        }
    }

    fn host_groups(&'a self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut groups = BTreeMap::new();
        for group in self.set("host_groups") {
            let mut known = BTreeSet::new();
            let mut members = Vec::new();
            for member in self.words(&format!("{}_members", group.text)) {
                let name = member.read(names::iqn)?;
                if known.insert(name.clone()) {
                    members.push(name);
                }
            }
            groups.insert(group.text, members);
        }
        Ok(groups)
    }

    fn target_groups(
        &'a self,
        at: &BTreeMap<String, usize>,
    ) -> Result<BTreeMap<String, Vec<usize>>> {
        let mut groups = BTreeMap::new();
        for group in self.set("target_groups") {
            let members: Vec<usize> = self
                .set(&format!("{}_members", group.text))
                .iter()
                .map(|member| {
                    at.get(&member.text).copied().ok_or_else(|| {
                        member.error("is no target; expected the name of one, as in targets")
                    })
                })
                .collect::<Result<_>>()?;
            groups.insert(group.text, members);
        }
        Ok(groups)
    }

    fn views(
        &'a self,
        place: &Place,
        hosts: &BTreeMap<String, Vec<String>>,
        groups: &BTreeMap<String, Vec<usize>>,
        targets: usize,
    ) -> Result<Vec<View>> {
        let all = || (0..targets).collect();
        let names = self.set("views");
        if names.is_empty() {
            return Ok(vec![View {
                hosts: None,
                targets: all(),
                prefix: None,
            }]);
        }
        let view = |name: Word| -> Result<View> {
            let name = name.text;
            let hosts =
                match self.word(&format!("{name}_hg"))? {
                    Some(group) => Some(hosts.get(&group.text).cloned().ok_or_else(|| {
                        group.error("is no host group; expected one of host_groups")
                    })?),
                    None => None,
                };
            let targets = match self.word(&format!("{name}_tg"))? {
                Some(group) => groups.get(&group.text).cloned().ok_or_else(|| {
                    group.error("is no target group; expected one of target_groups")
                })?,
                None => all(),
            };
            let prefix = match self.prefix(&name)? {
                Some(prefix) => {
                    let dataset = prefix.read(volumes::dataset)?;
                    let pool = place.pool.as_deref();
                    if pool.is_some_and(|pool| !volumes::is_within(&dataset, pool)) {
                        return Err(prefix.error("is in another pool"));
                    }
                    Some(dataset)
                }
                None => None,
            };
            Ok(View {
                hosts,
                targets,
                prefix,
            })
        };
        names.into_iter().map(view).collect()
    }

    /// A dataset's name, which may have blanks in it.
    fn prefix(&'a self, view: &str) -> Result<Option<Word<'a>>> {
        let variable = format!("{view}_lu_prefix");
        let Some(found) = self.variables.get(&variable) else {
            return Ok(None);
        };
        let word = |text: &str| Word {
            conf: self,
            variable: variable.clone(),
            line: found.line,
            text: text.to_owned(),
        };
        match &found.value {
            Value::Text(text) if text.is_empty() => Ok(None),
            Value::Text(text) => Ok(Some(word(text))),
            Value::Array(elements) => match elements.as_slice() {
                [] => Ok(None),
                [one] => Ok(Some(word(one))),
                [_, second, ..] => Err(word(second).error("is one value too much; expected one")),
            },
        }
    }

    /// The volumes that are logical units.
    fn logical_units(&'a self, place: &Place) -> Result<Vec<String>> {
        let listed = self.elements("logical_units");
        if listed.is_empty() {
            let volumes = place.volumes()?.unwrap_or_default().iter();
            return Ok(volumes
                .filter(|volume| volume.has_device)
                .map(|volume| volume.name.clone())
                .collect());
        }
        let mut known = BTreeSet::new();
        let mut names = Vec::new();
        for unit in listed {
            let name = unit.read(volumes::dataset)?;
            place
                .volume(&name)
                .map_err(|error| unit.error(format_args!("is no logical unit: {error:#}")))?;
            if known.insert(name.clone()) {
                names.push(name);
            }
        }
        Ok(names)
    }
}
