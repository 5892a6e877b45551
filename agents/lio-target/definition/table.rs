//! A TOML document, read key by key: each error is one line that names the file, the line, the key, the value and what was
//! expected.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use anyhow::{Error, Result, anyhow};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Of a value, how much is shown in an error, in characters.
const SHOWN: usize = 60;

/// Where a value stands.
#[derive(Clone)]
struct At<'a> {
    path: &'a str,
    text: &'a str,
    span: Range<usize>,
    /// Such as `target.lun.number`; empty for the document.
    key: String,
}

impl<'a> At<'a> {
    fn inside(&self, key: &str, span: Range<usize>) -> At<'a> {
        let key = match self.key.as_str() {
            "" => key.to_owned(),
            outer => format!("{outer}.{key}"),
        };
        At {
            key,
            span,
            ..self.clone()
        }
    }

    fn error(&self, error: impl Display) -> Error {
        let place = place(self.path, self.text, self.span.start);
        match self.key.as_str() {
            "" => anyhow!("{place}: {error}"),
            key => anyhow!("{place}: {key}: {error}"),
        }
    }

    /// The value as it is written; not if it may be a secret.
    fn value(&self) -> String {
        let written = self.text.get(self.span.clone()).unwrap_or_default();
        if self.key.contains("password") || written.contains("password") {
            return "***".into();
        }
        let line = written.lines().next().unwrap_or_default();
        match line.chars().count() > SHOWN || line.len() < written.trim_end().len() {
            true => format!("{}...", line.chars().take(SHOWN).collect::<String>()),
            false => line.to_owned(),
        }
    }
}

fn place(path: &str, text: &str, offset: usize) -> String {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("{path}:{line}")
}

/// A document.
pub struct Document<'a> {
    path: &'a str,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// The document of a text; `path` is for messages.
    pub fn parse(path: &'a str, text: &'a str) -> Result<Document<'a>> {
        let root = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            anyhow!("{}: {message}", place(path, text, offset))
        })?;
        Ok(Document { path, text, root })
    }

    /// Its keys.
    pub fn table(&self) -> Table<'_> {
        let at = At {
            path: self.path,
            text: self.text,
            span: 0..0,
            key: String::new(),
        };
        Table::new(at, self.root.get_ref())
    }
}

/// A table, of which each key is taken once.
pub struct Table<'a> {
    at: At<'a>,
    left: BTreeMap<&'a str, (Range<usize>, &'a Spanned<DeValue<'a>>)>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    fn new(at: At<'a>, table: &'a DeTable<'a>) -> Table<'a> {
        let left = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        Table {
            at,
            left,
            known: Vec::new(),
        }
    }

    /// The value of a key, if it is there.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let (_, value) = self.left.remove(key)?;
        Some(Value {
            at: self.at.inside(key, value.span()),
            value: value.get_ref(),
        })
    }

    /// Every key that is left, with its value: they are names.
    pub fn rest(&mut self) -> Vec<(&'a str, Value<'a>)> {
        std::mem::take(&mut self.left)
            .into_iter()
            .map(|(key, (_, value))| {
                let at = self.at.inside(key, value.span());
                let value = value.get_ref();
                (key, Value { at, value })
            })
            .collect()
    }

    /// Fails if there is a key that was not asked for.
    pub fn end(mut self) -> Result<()> {
        let Some((key, (span, _))) = self.left.pop_first() else {
            return Ok(());
        };
        self.known.sort_unstable();
        let expected = format!(
            "there is no such key; expected one of {}",
            self.known.join(", ")
        );
        Err(self.at.inside(key, span).error(expected))
    }

    /// An error about the table as a whole.
    pub fn error(&self, error: impl Display) -> Error {
        self.at.error(error)
    }
}

/// A value.
pub struct Value<'a> {
    at: At<'a>,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// An error whose sentence begins with the value.
    pub fn error(&self, error: impl Display) -> Error {
        self.at.error(format_args!("{} {error}", self.at.value()))
    }

    /// An error about something else than the value's form.
    pub fn wrong(&self, error: impl Display) -> Error {
        self.at.error(error)
    }

    fn is_not(&self, expected: &str) -> Error {
        self.error(format_args!(
            "is not what belongs here; expected {expected}"
        ))
    }

    /// A text.
    pub fn text(&self) -> Result<&'a str> {
        self.value
            .as_str()
            .ok_or_else(|| self.is_not("a text in quotes"))
    }

    /// A text that stands for something.
    pub fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
        read(self.text()?).map_err(|error| self.error(error))
    }

    /// A whole number.
    pub fn number(&self, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        self.value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.is_not(&format!(
                    "a number from {} to {}",
                    range.start(),
                    range.end()
                ))
            })
    }

    /// A whole number that fits.
    pub fn small<T: TryFrom<u64>>(&self, range: std::ops::RangeInclusive<u64>) -> Result<T> {
        let number = self.number(range)?;
        T::try_from(number).map_err(|_| self.is_not("a smaller number"))
    }

    /// A truth value.
    pub fn flag(&self) -> Result<bool> {
        self.value
            .as_bool()
            .ok_or_else(|| self.is_not("true or false"))
    }

    /// The text as it is; a number in decimal digits; and one of the two words for a truth value.
    pub fn scalar(&self, yes: &str, no: &str) -> Result<String> {
        match self.value {
            DeValue::String(text) => Ok(text.as_ref().to_owned()),
            DeValue::Boolean(true) => Ok(yes.to_owned()),
            DeValue::Boolean(false) => Ok(no.to_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|_| self.is_not("a number of 64 bits")),
            _ => Err(self.is_not("a text, a number, true or false")),
        }
    }

    /// Is it a number?
    pub fn is_number(&self) -> bool {
        self.value.is_integer()
    }

    /// The elements of an array.
    pub fn list(&self) -> Result<Vec<Value<'a>>> {
        let elements = self
            .value
            .as_array()
            .ok_or_else(|| self.is_not("an array in square brackets"))?;
        Ok(elements
            .iter()
            .map(|element| Value {
                at: At {
                    span: element.span(),
                    ..self.at.clone()
                },
                value: element.get_ref(),
            })
            .collect())
    }

    /// The keys of a table.
    pub fn table(&self) -> Result<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Ok(Table::new(self.at.clone(), table)),
            _ => Err(self.is_not("a table")),
        }
    }

    /// The tables of an array.
    pub fn tables(&self) -> Result<Vec<Table<'a>>> {
        self.list()?.iter().map(Value::table).collect()
    }
}
