//! The rules that configfs has for everyone: what may be made, removed, linked and written.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::engine::Engine;
use super::items::{Item, Store};
use super::numbers;

/// As much of a text as one `write` hands to an attribute.
const ATTRIBUTE_SIZE: usize = 4095;

/// What lies at a path.
pub(super) enum Found {
    /// A directory, and where it is once links are followed.
    Item(Vec<String>),
    /// An attribute of a directory.
    Attribute(Vec<String>, String),
    /// A link in a directory.
    Link(Vec<String>, String),
}

impl Engine {
    /// Looks a path up. Links on the way are followed, one at its end is not.
    pub(super) fn find(&self, path: &[String]) -> Result<Found, Errno> {
        let mut place: Vec<String> = Vec::new();
        let mut item = &self.root;
        for (at, name) in path.iter().enumerate() {
            let last = at + 1 == path.len();
            if let Some(child) = item.children.get(name) {
                place.push(name.clone());
                item = child;
            } else if let Some(target) = item.links.get(name) {
                if last {
                    return Ok(Found::Link(place, name.clone()));
                }
                place = target.clone();
                item = self.item(&place).ok_or(Errno::ENOENT)?;
            } else if item.attributes.contains_key(name.as_str()) {
                return match last {
                    true => Ok(Found::Attribute(place, name.clone())),
                    false => Err(Errno::ENOTDIR),
                };
            } else {
                return Err(Errno::ENOENT);
            }
        }
        Ok(Found::Item(place))
    }

    /// The directory at a place.
    pub(super) fn item(&self, place: &[String]) -> Option<&Item> {
        place
            .iter()
            .try_fold(&self.root, |item, name| item.children.get(name))
    }

    /// The directory at a place that is there.
    pub(super) fn item_mut(&mut self, place: &[String]) -> &mut Item {
        place.iter().fold(&mut self.root, |item, name| {
            item.children
                .get_mut(name)
                .unwrap_or_else(|| panic!("there is no {}", place.join("/")))
        })
    }

    /// Every directory.
    pub(super) fn items(&self) -> Vec<(Vec<String>, &Item)> {
        fn below<'a>(place: &[String], item: &'a Item, found: &mut Vec<(Vec<String>, &'a Item)>) {
            found.push((place.to_vec(), item));
            for (name, child) in &item.children {
                below(&child_of(place, name), child, found);
            }
        }
        let mut found = Vec::new();
        below(&[], &self.root, &mut found);
        found
    }

    /// Sets what an attribute shows.
    pub(super) fn show(&mut self, place: &[String], attribute: &str, value: impl Into<String>) {
        let shown = self.item_mut(place).attributes.get_mut(attribute);
        if let Some(shown) = shown {
            shown.value = value.into();
        }
    }

    /// What an attribute shows, without the newline; empty if there is none.
    pub(super) fn shows(&self, place: &[String], attribute: &str) -> &str {
        self.item(place)
            .and_then(|item| item.attributes.get(attribute))
            .map_or("", |attribute| attribute.value.trim_end_matches('\n'))
    }

    pub(super) fn reads(&self, path: &[String]) -> Result<(), Errno> {
        match self.find(path)? {
            Found::Attribute(place, name) => {
                let attribute = self
                    .item(&place)
                    .and_then(|item| item.attributes.get(name.as_str()));
                attribute
                    .and_then(|found| found.unreadable)
                    .map_or(Ok(()), Err)
            }
            Found::Item(_) | Found::Link(..) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn makes_dir(&mut self, path: &[String]) -> Result<(), Errno> {
        let Some((name, above)) = path.split_last() else {
            return Err(Errno::EEXIST);
        };
        let parent = self.directory(above)?;
        if self.is_there(&parent, name) {
            return Err(Errno::EEXIST);
        }
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        let made = self.make(&parent, name)?;
        self.item_mut(&parent).children.insert(name.clone(), made);
        Ok(())
    }

    pub(super) fn removes_dir(&mut self, path: &[String]) -> Result<(), Errno> {
        let Found::Item(place) = self.find(path)? else {
            return Err(Errno::ENOTDIR);
        };
        let (Some((name, above)), Some(item)) = (place.split_last(), self.item(&place)) else {
            return Err(Errno::EBUSY);
        };
        if item.standing {
            return Err(Errno::EPERM);
        }
        let linked: BTreeSet<Vec<String>> = self
            .items()
            .iter()
            .flat_map(|(_, item)| item.links.values().cloned())
            .collect();
        may_go(&place, item, &linked)?;
        let gone = self.item_mut(above).children.remove(name);
        if let Some(gone) = gone {
            self.released(&place, gone);
        }
        Ok(())
    }

    pub(super) fn links(
        &mut self,
        target: Option<&[String]>,
        path: &[String],
    ) -> Result<(), Errno> {
        let Some((name, above)) = path.split_last() else {
            return Err(Errno::EEXIST);
        };
        let parent = self.directory(above)?;
        if self.is_there(&parent, name) {
            return Err(Errno::EEXIST);
        }
        self.may_have_links(&parent)?;
        // A path outside of configfs is no item of it.
        let target = self.directory(target.ok_or(Errno::EPERM)?)?;
        self.link(&parent, &target)?;
        let item = self.item_mut(&parent);
        item.links.insert(name.clone(), target);
        Ok(())
    }

    pub(super) fn unlinks(&mut self, path: &[String]) -> Result<(), Errno> {
        match self.find(path)? {
            Found::Item(_) => Err(Errno::EISDIR),
            Found::Attribute(..) => Err(Errno::EPERM),
            Found::Link(place, name) => {
                let target = self.item_mut(&place).links.remove(&name);
                if let Some(target) = target {
                    self.unlinked(&place, &target);
                }
                Ok(())
            }
        }
    }

    /// One `write` of a text, or several of what does not fit into one: each is a value of its own.
    pub(super) fn writes(&mut self, path: &[String], text: &str) -> Result<(), Errno> {
        let Found::Attribute(place, name) = self.find(path)? else {
            return Err(Errno::EISDIR);
        };
        let found = self
            .item(&place)
            .and_then(|item| item.attributes.get_key_value(name.as_str()));
        let Some((name, store)) = found.map(|(name, attribute)| (*name, attribute.store)) else {
            return Err(Errno::ENOENT);
        };
        if matches!(store, Store::Never) {
            return Err(Errno::EACCES);
        }
        for piece in text.as_bytes().chunks(ATTRIBUTE_SIZE) {
            let piece = String::from_utf8_lossy(piece);
            let value = piece.split('\0').next().unwrap_or_default();
            self.store(&place, name, store, value)?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        place: &[String],
        name: &'static str,
        store: Store,
        text: &str,
    ) -> Result<(), Errno> {
        match store {
            Store::Never => return Err(Errno::EACCES),
            Store::Ignored => {}
            Store::Number(from, to) => {
                let value = numbers::number32(text)?;
                if !(from..=to).contains(&value) {
                    return Err(Errno::EINVAL);
                }
                self.show(place, name, format!("{value}\n"));
            }
            Store::Flag => {
                let value = numbers::flag(text)?;
                self.show(place, name, format!("{}\n", u8::from(value)));
            }
            Store::By(store) => store(self, place, name, text)?,
        }
        Ok(())
    }

    /// The directory at a path, once links are followed.
    fn directory(&self, path: &[String]) -> Result<Vec<String>, Errno> {
        match self.find(path)? {
            Found::Item(place) => Ok(place),
            Found::Attribute(..) => Err(Errno::ENOTDIR),
            Found::Link(place, name) => self
                .item(&place)
                .and_then(|item| item.links.get(&name).cloned())
                .ok_or(Errno::ENOENT),
        }
    }

    fn is_there(&self, parent: &[String], name: &str) -> bool {
        self.item(parent).is_some_and(|item| {
            item.children.contains_key(name)
                || item.links.contains_key(name)
                || item.attributes.contains_key(name)
        })
    }
}

/// The place of a child.
pub(super) fn child_of(place: &[String], name: &str) -> Vec<String> {
    let mut child = place.to_vec();
    child.push(name.to_owned());
    child
}

/// May this directory be removed, and with it the ones that were made by the kernel together with it?
fn may_go(place: &[String], item: &Item, linked: &BTreeSet<Vec<String>>) -> Result<(), Errno> {
    if linked.contains(place) {
        return Err(Errno::EBUSY);
    }
    if !item.links.is_empty() {
        return Err(Errno::ENOTEMPTY);
    }
    for (name, child) in &item.children {
        if !child.standing {
            return Err(Errno::ENOTEMPTY);
        }
        may_go(&child_of(place, name), child, linked)?;
    }
    Ok(())
}
