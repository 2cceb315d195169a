//! Reads the lines of a script. Must never know what a word means.

/// A word: `value`, `"value"`, `key=value` or `key="value"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
}

/// A line that does something.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Milliseconds since the script's start.
    pub(crate) at: u64,
    pub(crate) verb: String,
    /// What follows the verb.
    pub(crate) words: Vec<Word>,
    /// What follows each `|`.
    pub(crate) parts: Vec<Vec<Word>>,
}

/// A line of a script.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// Empty, or a comment.
    Prose,
    /// Indented: what is expected of the step above.
    Expected,
    Step(Step),
}

/// Reads one line.
pub(crate) fn line(text: &str) -> Result<Line, String> {
    if text.trim().is_empty() || text.starts_with('#') {
        return Ok(Line::Prose);
    }
    if text.starts_with(' ') {
        return Ok(Line::Expected);
    }
    let mut parts = words(text)?;
    let mut first = parts.remove(0);
    if first.len() < 2 {
        return Err("a step is a time, a verb and its words".to_owned());
    }
    let at = span(&first.remove(0).value)?;
    let verb = first.remove(0).value;
    Ok(Line::Step(Step { at, verb, words: first, parts }))
}

/// All words of a line, in parts that stand between bars; there is at least one part.
fn words(text: &str) -> Result<Vec<Vec<Word>>, String> {
    let mut parts = vec![Vec::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut word = Word { key: None, value: String::new() };
        match letter {
            ' ' => continue,
            '|' => {
                parts.push(Vec::new());
                continue;
            }
            '"' => quoted(&mut letters, &mut word.value)?,
            other => {
                word.value.push(other);
                while let Some(letter) = letters.next_if(|letter| *letter != ' ') {
                    match letter {
                        '=' if word.key.is_none() => word.key = Some(std::mem::take(&mut word.value)),
                        '"' => quoted(&mut letters, &mut word.value)?,
                        other => word.value.push(other),
                    }
                }
            }
        }
        parts.last_mut().expect("there is one").push(word);
    }
    Ok(parts)
}

fn quoted(letters: &mut impl Iterator<Item = char>, value: &mut String) -> Result<(), String> {
    for letter in letters {
        if letter == '"' {
            return Ok(());
        }
        value.push(letter);
    }
    Err("a quotation has no end".to_owned())
}

/// Reads a span such as `1h30m`, `30s`, `250ms` as milliseconds.
pub(crate) fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a span such as 250ms, 30s, 1m30s, 2h or 7d");
    let (mut total, mut rest) = (0, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let (unit, length) = match rest {
            _ if rest.starts_with("ms") => (1, 2),
            _ if rest.starts_with('s') => (1000, 1),
            _ if rest.starts_with('m') => (60_000, 1),
            _ if rest.starts_with('h') => (3_600_000, 1),
            _ if rest.starts_with('d') => (86_400_000, 1),
            _ => return Err(wrong()),
        };
        total += number * unit;
        rest = &rest[length..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[test]
fn lines_are_read() {
    let Ok(Line::Step(step)) = line("1m30s publish key=\"a b\" | 1 \"say hi\" x=y") else { panic!("a step") };
    assert_eq!((step.at, step.verb.as_str()), (90_000, "publish"));
    assert_eq!(step.words, [Word { key: Some("key".into()), value: "a b".into() }]);
    assert_eq!(step.parts[0][1], Word { key: None, value: "say hi".into() });
    assert!(line("0s").is_err() && line("soon publish").is_err() && line("0s say \"hi").is_err());
}
