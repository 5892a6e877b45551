//! The part of bash in which a `stmf-ha.conf` declares something: assignments of texts and arrays. Nothing is executed; whatever
//! would have to be is refused, with the line it stands on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

/// A variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `name=value`
    Text(String),
    /// `name=( value ... )`
    Array(Vec<String>),
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The line of the last assignment, from 1.
    pub line: usize,
    /// What it is in the end.
    pub value: Value,
}

/// All variables of a file, and which of them somebody has asked for.
#[derive(Debug, Default)]
pub struct Variables {
    found: BTreeMap<String, Variable>,
    used: RefCell<BTreeSet<String>>,
}

impl Variables {
    /// A variable by its name.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        let found = self.found.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(found)
    }

    /// One that nobody has asked for, the first in the file.
    pub fn unused(&self) -> Option<(&str, usize)> {
        let used = self.used.borrow();
        self.found
            .iter()
            .filter(|(name, _)| !used.contains(*name))
            .map(|(name, variable)| (name.as_str(), variable.line))
            .min_by_key(|(_, line)| *line)
    }
}

/// Why a text is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// The variables that a text assigns; `given` have values before.
pub fn parse(text: &str, given: &[(&str, &str)]) -> Result<Variables, Error> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
        line: 1,
        variables: Variables::default(),
        given: given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    while parser.statement()? {}
    Ok(parser.variables)
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    variables: Variables,
    given: BTreeMap<String, String>,
}

/// A word, or several words, as an expansion in an array can give them.
type Words = Vec<String>;

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Error> {
        Err(Error {
            line: self.line,
            reason: reason.into(),
        })
    }

    /// Passes over blanks and continued lines; over ends of lines and comments too, if `lines`.
    fn skip(&mut self, lines: bool) -> Result<(), Error> {
        loop {
            match self.peek() {
                Some(' ' | '\t') => {
                    self.next();
                }
                Some('\n') if lines => {
                    self.next();
                }
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                Some('\\') => {
                    let mut ahead = self.rest.clone();
                    ahead.next();
                    match ahead.next() {
                        Some('\n') => {
                            self.next();
                            self.next();
                        }
                        _ => return Ok(()),
                    }
                }
                Some('\r') => {
                    return self
                        .refuse("there is a carriage return; expected lines that end as on Unix");
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads the assignments up to the end of a line, or to a semicolon; false at the end of the text.
    fn statement(&mut self) -> Result<bool, Error> {
        self.skip(true)?;
        if self.peek().is_none() {
            return Ok(false);
        }
        let (mut declares, mut is_array) = (false, false);
        let mut first = true;
        loop {
            self.skip(false)?;
            match self.peek() {
                None | Some('\n') => return Ok(true),
                Some(';') if !first => {
                    self.next();
                    return match self.peek() {
                        Some(';') => self.refuse("\";;\" is no assignment"),
                        _ => Ok(true),
                    };
                }
                _ => {}
            }
            let name = self.name();
            match (self.peek(), name.as_str()) {
                (Some('='), name) if !name.is_empty() => {
                    self.next();
                    self.assign(name, false, is_array)?;
                }
                (Some('+'), name) if !name.is_empty() => {
                    self.next();
                    match self.next() {
                        Some('=') => self.assign(name, true, is_array)?,
                        _ => return self.is_no_assignment(name),
                    }
                }
                (None | Some(' ' | '\t' | '\n' | ';'), "export" | "declare" | "typeset")
                    if first =>
                {
                    declares = true;
                    first = false;
                    is_array = self.options()?;
                    continue;
                }
                (None | Some(' ' | '\t' | '\n' | ';'), name) if declares && !name.is_empty() => {
                    self.declare(name, is_array)?;
                }
                (_, name) => return self.is_no_assignment(name),
            }
            first = false;
            match self.peek() {
                None | Some(' ' | '\t' | '\n' | ';') => {}
                Some(c) => {
                    return self.refuse(format!(
                        "there is a '{c}' behind a value; expected a blank or the end of the line"
                    ));
                }
            }
        }
    }

    /// A variable that is given no value. It keeps the one it has.
    fn declare(&mut self, name: &str, is_array: bool) -> Result<(), Error> {
        match self.variables.found.get(name).map(|old| &old.value) {
            None if is_array => {
                let variable = Variable {
                    line: self.line,
                    value: Value::Array(Vec::new()),
                };
                self.variables.found.insert(name.to_owned(), variable);
                Ok(())
            }
            // bash would make it the first element.
            Some(Value::Text(_)) if is_array => {
                self.refuse(format!("{name} is no array; expected {name}=( value ... )"))
            }
            _ => Ok(()),
        }
    }

    fn is_no_assignment<T>(&mut self, begun: &str) -> Result<T, Error> {
        let rest: String = self
            .rest
            .clone()
            .take_while(|c| *c != '\n')
            .take(40)
            .collect();
        self.refuse(format!(
            "\"{}\" is no assignment; expected name=value or name=( value ... ): nothing in this file is executed",
            format!("{begun}{rest}").trim_end()
        ))
    }

    /// The options of export and declare that are understood; is it arrays that are declared?
    fn options(&mut self) -> Result<bool, Error> {
        let mut is_array = false;
        loop {
            self.skip(false)?;
            if self.peek() != Some('-') {
                return Ok(is_array);
            }
            let mut option = String::new();
            while self.peek().is_some_and(|c| !c.is_whitespace() && c != ';') {
                option.extend(self.next());
            }
            let harmless = option.len() > 1 && option.chars().skip(1).all(|c| "axg".contains(c));
            if !harmless {
                return self.refuse(format!(
                    "{option}: expected no other option than -a, -g and -x"
                ));
            }
            is_array |= option.contains('a');
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits =
                c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.extend(self.next());
        }
        name
    }

    fn assign(&mut self, name: &str, appends: bool, is_array: bool) -> Result<(), Error> {
        let line = self.line;
        let mut value = match self.peek() {
            Some('(') => {
                self.next();
                Value::Array(self.array()?)
            }
            _ => Value::Text(self.text()?),
        };
        let before = self.variables.found.get(name).map(|old| &old.value);
        value = match (before, value) {
            // bash would change the first element.
            (before, Value::Text(_)) if is_array || matches!(before, Some(Value::Array(_))) => {
                return self.refuse(format!(
                    "{name} is an array; expected {name}=( value ... ) or {name}+=( value ... )"
                ));
            }
            (Some(Value::Text(old)), Value::Text(new)) if appends => {
                Value::Text(format!("{old}{new}"))
            }
            (Some(Value::Array(old)), Value::Array(new)) if appends => {
                Value::Array([old.clone(), new].concat())
            }
            (Some(Value::Text(old)), Value::Array(new)) if appends => {
                Value::Array([vec![old.clone()], new].concat())
            }
            (_, value) => value,
        };
        self.variables
            .found
            .insert(name.to_owned(), Variable { line, value });
        Ok(())
    }

    fn array(&mut self) -> Result<Words, Error> {
        let begun = self.line;
        let mut elements = Vec::new();
        loop {
            self.skip(true)?;
            match self.peek() {
                None => {
                    return Err(Error {
                        line: begun,
                        reason: "the array that begins here has no end; expected a \")\"".into(),
                    });
                }
                Some(')') => {
                    self.next();
                    return Ok(elements);
                }
                Some(_) => elements.extend(self.word(true)?),
            }
            match self.peek() {
                None | Some(' ' | '\t' | '\n' | '\\' | ')') => {}
                Some(c) => {
                    return self.refuse(format!(
                        "there is a '{c}' behind a value; expected a blank or a \")\""
                    ));
                }
            }
        }
    }

    fn text(&mut self) -> Result<String, Error> {
        Ok(self.word(false)?.concat())
    }

    /// A word; more or less than one only in an array, where an expansion that is not in quotes is split.
    fn word(&mut self, in_array: bool) -> Result<Words, Error> {
        let mut words = Words::new();
        let mut word: Option<String> = None;
        let mut first = true;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | ';' => break,
                ')' if in_array => break,
                '\'' => {
                    self.next();
                    word.get_or_insert_default()
                        .push_str(&self.single_quoted()?);
                }
                '"' => {
                    self.next();
                    self.double_quoted(in_array, &mut words, &mut word)?;
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') => {}
                        Some(c) => word.get_or_insert_default().push(c),
                        None => return self.refuse("the text ends with a backslash"),
                    }
                }
                '$' => {
                    self.next();
                    let value = self.expansion(in_array)?;
                    match in_array {
                        false => word.get_or_insert_default().push_str(&value.concat()),
                        true => split_into(&value, &mut words, &mut word),
                    }
                }
                '`' => {
                    return self
                        .refuse("a command in backquotes: nothing in this file is executed");
                }
                '(' | ')' | '<' | '>' | '|' | '&' => {
                    return self.refuse(format!(
                        "there is a '{c}' without quotes: nothing in this file is executed"
                    ));
                }
                '~' if first => {
                    return self
                        .refuse("there is a '~' without quotes, which would be a home directory");
                }
                '*' | '?' | '{' if in_array => {
                    return self.refuse(format!("there is a '{c}' without quotes, which would be a pattern; expected each value to be written out"));
                }
                '[' if in_array && first => {
                    // [0]=value is an index, [2001:db8::1]:3260 is not.
                    let mut ahead = self.rest.clone().skip_while(|c| *c != ']');
                    ahead.next();
                    if ahead.next() == Some('=') {
                        return self.refuse(
                            "there is an index in an array; expected the values in their order",
                        );
                    }
                    word.get_or_insert_default().extend(self.next());
                }
                '\r' => {
                    return self
                        .refuse("there is a carriage return; expected lines that end as on Unix");
                }
                c if c.is_control() => return self.refuse("there is a control character"),
                _ => word.get_or_insert_default().extend(self.next()),
            }
            first = false;
        }
        words.extend(word);
        Ok(words)
    }

    fn single_quoted(&mut self) -> Result<String, Error> {
        let begun = self.line;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return unended(begun, '\''),
            }
        }
    }

    fn double_quoted(
        &mut self,
        in_array: bool,
        words: &mut Words,
        word: &mut Option<String>,
    ) -> Result<(), Error> {
        let begun = self.line;
        let mut text = String::new();
        // "${array[@]}" of no elements is no word, while "" is an empty one.
        let mut is_word = true;
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => match self.next() {
                    Some('\n') => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return unended(begun, '"'),
                },
                Some('$') => {
                    let mut values = self.expansion(in_array)?;
                    let last = values.pop();
                    is_word = last.is_some() || !text.is_empty() || word.is_some();
                    for value in values {
                        let start = word.take().unwrap_or_default();
                        words.push(start + &std::mem::take(&mut text) + &value);
                    }
                    text.push_str(&last.unwrap_or_default());
                }
                Some('`') => {
                    return self
                        .refuse("a command in backquotes: nothing in this file is executed");
                }
                Some(c) => text.push(c),
                None => return unended(begun, '"'),
            }
        }
        if is_word || !text.is_empty() {
            word.get_or_insert_default().push_str(&text);
        }
        Ok(())
    }

    /// What a variable has, behind a dollar sign: `name`, `{name}`, and in an array `{name[@]}`.
    fn expansion(&mut self, in_array: bool) -> Result<Words, Error> {
        let in_braces = self.peek() == Some('{');
        if in_braces {
            self.next();
        }
        let name = self.name();
        let mut all = false;
        if in_braces {
            let line = self.line;
            let mut end = String::new();
            loop {
                match self.next() {
                    Some('}') => break,
                    Some(c) if c != '\n' && end.len() < 20 => end.push(c),
                    _ => {
                        let reason = "there is a \"${\" without a \"}\"".into();
                        return Err(Error { line, reason });
                    }
                }
            }
            match end.as_str() {
                "" => {}
                "[@]" if in_array => all = true,
                _ => {
                    return self.refuse(format!(
                        "\"${{{name}{end}}}\" is not understood; expected ${{name}}, or in an array ${{name[@]}}"
                    ));
                }
            }
        }
        if name.is_empty() {
            return self.refuse(
                "there is a '$' without the name of a variable: nothing in this file is executed",
            );
        }
        match self.variables.get(&name).map(|found| &found.value) {
            Some(Value::Text(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(elements)) if all => Ok(elements.clone()),
            Some(Value::Array(_)) => self.refuse(format!(
                "${name} would be the first element of an array; expected ${{{name}[@]}}, in an array"
            )),
            None => match self.given.get(&name) {
                Some(value) => Ok(vec![value.clone()]),
                None => self.refuse(format!("${name} is not assigned before this line")),
            },
        }
    }
}

fn unended<T>(line: usize, quote: char) -> Result<T, Error> {
    Err(Error {
        line,
        reason: format!("the text that begins here has no end; expected another {quote}"),
    })
}

/// Adds what an expansion without quotes gives to the words of an array: its values are split at blanks.
fn split_into(values: &[String], words: &mut Words, word: &mut Option<String>) {
    for (index, value) in values.iter().enumerate() {
        if index > 0 || value.starts_with(char::is_whitespace) {
            words.extend(word.take());
        }
        for (index, part) in value.split_whitespace().enumerate() {
            if index > 0 {
                words.extend(word.take());
            }
            word.get_or_insert_default().push_str(part);
        }
        if value.ends_with(char::is_whitespace) {
            words.extend(word.take());
        }
    }
}
