//! The same damages with a mirror: each page of each file of either side in turn, each file gone, each directory gone.
//! Must never accept less than everything.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use fluxrelay::storage::mirror::MIRRORED_FILES;

use super::damage::{Damage, damages};
use super::workload::{self, Made};
use super::{SHOWN, copy, first, reader, sample};

/// Which directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Data,
    Mirror,
}

/// What happens to it.
#[derive(Debug, Clone)]
enum Harm {
    Damaged(Damage),
    Gone(String),
    AllGone,
}

impl Harm {
    fn name(&self) -> &'static str {
        match self {
            Harm::Damaged(damage) => damage.kind.name(),
            Harm::Gone(_) => "gone",
            Harm::AllGone => "all gone",
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Harm::Damaged(damage) => write!(f, "{damage}"),
            Harm::Gone(file) => write!(f, "{file} is gone"),
            Harm::AllGone => f.write_str("everything is gone"),
        }
    }
}

fn harms(files: &BTreeMap<String, Vec<u8>>) -> Vec<Harm> {
    let gone = files.keys().cloned().map(Harm::Gone);
    let damaged = damages(files, first()).into_iter().map(Harm::Damaged);
    damaged.chain(gone).chain([Harm::AllGone]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_mirror_damage_to_either_side_loses_nothing() {
    let made = workload::make(true).await;
    let mut expected = BTreeMap::new();
    for made in &made {
        let (dir, mirror) = (copy(&made.files), copy(&made.mirror));
        let read = reader::read_mirrored(dir.path(), mirror.path(), &made.known).await;
        expected.insert(made.name, read.expect("a sound pair is read"));
    }
    let all = made.iter().flat_map(|made| {
        let on = move |side, files| harms(files).into_iter().map(move |harm| (made, side, harm));
        on(Side::Data, &made.files).chain(on(Side::Mirror, &made.mirror))
    });
    let (mut tally, mut failures) = (BTreeMap::<_, u64>::new(), Vec::new());
    for (made, side, harm) in sample(all.collect()) {
        *tally.entry(format!("{:<6} {side:?} {}", made.name, harm.name())).or_default() += 1;
        if let Err(why) = try_one(made, side, &harm, &expected[made.name]).await {
            failures.push(format!("{} {side:?}: {harm}: {why}", made.name));
        }
    }
    tally.iter().for_each(|(what, count)| println!("{what:<24} {count}"));
    println!("{} harms to a mirrored directory", tally.values().sum::<u64>());
    let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    assert!(failures.is_empty(), "{} failures:\n  {shown}", failures.len());
}

/// Harms one side of a copy, starts and reads it; afterwards both sides hold the same again.
async fn try_one(made: &Made, side: Side, harm: &Harm, expected: &[String]) -> Result<(), String> {
    let (dir, mirror) = (copy(&made.files), copy(&made.mirror));
    let (harmed, mut files) = match side {
        Side::Data => (dir.path(), made.files.clone()),
        Side::Mirror => (mirror.path(), made.mirror.clone()),
    };
    match harm {
        Harm::Damaged(damage) => {
            damage.apply(&mut files);
            workload::write_private(&harmed.join(&damage.file), &files[&damage.file]);
        }
        Harm::Gone(file) => fs::remove_file(harmed.join(file)).expect("it is ours"),
        Harm::AllGone => fs::remove_dir_all(harmed).expect("it is ours"),
    }
    let read = reader::read_mirrored(dir.path(), mirror.path(), &made.known).await;
    let found = read.map_err(|ended| format!("LOST: {ended:?}"))?;
    if let Some((found, expected)) = found.iter().zip(expected).find(|(found, expected)| found != expected) {
        return Err(format!("WRONG: {found:.200} where {expected:.200} was stored"));
    }
    if found.len() != expected.len() {
        return Err(format!("WRONG: {} things read where {} were stored", found.len(), expected.len()));
    }
    in_step(dir.path(), mirror.path())
}

fn in_step(dir: &Path, mirror: &Path) -> Result<(), String> {
    for name in MIRRORED_FILES.into_iter().chain(["secret.key", "tickets.key"]) {
        let (left, right) = (fs::read(dir.join(name)), fs::read(mirror.join(name)));
        if left.map_err(|error| error.to_string())? != right.map_err(|error| error.to_string())? {
            return Err(format!("APART: {name} differs"));
        }
    }
    Ok(())
}
