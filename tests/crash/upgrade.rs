//! A store of an earlier format whose disk loses power while its rows are moved into blocks: it is of the one format or of
//! the other then, and the next start finds every row.

use std::collections::BTreeSet;
use std::path::Path;

use fluxrelay::ids::OrderId;
use fluxrelay::storage::{OpenOptions, Recovered, Rest, open_with_backends};

use crate::disk::{Disk, Image, JOURNAL, Random, STORE};

/// Files as the program of that time wrote them.
fn earlier(format: &str) -> Image {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format);
    let mut image = Image::default();
    for (file, name) in [(JOURNAL, "journal.log"), (STORE, "store.redb")] {
        let bytes = std::fs::read(folder.join(name)).expect("a file of the fixture");
        image[file].edit(|content| *content = bytes);
    }
    image
}

/// Opens what is on a disk; everything that is found there, in words.
fn found(disk: &Disk, what: &str) -> Vec<String> {
    let failed = |error| -> ! { panic!("{what}: {error}") };
    let opened = open_with_backends(disk.file(JOURNAL), disk.file(STORE), OpenOptions::default());
    let (rest, recovery) = opened.unwrap_or_else(|error| failed(error));
    let mut words = Vec::new();
    let (mut servers, mut orders) = (BTreeSet::new(), BTreeSet::<OrderId>::new());
    let replayed = recovery.replay(&rest, &mut |piece| {
        match &piece {
            Recovered::Server(row) => drop(servers.insert(row.server)),
            Recovered::Live(row) => drop(orders.insert(row.order)),
            Recovered::Key(row) => drop(orders.insert(row.order)),
            Recovered::Frame { .. } => {}
        }
        words.push(format!("{piece:?}"));
    });
    let _journal = replayed.unwrap_or_else(|error| failed(error));
    for server in servers {
        let page = rest.ended(server, None, None, usize::MAX);
        let page = page.unwrap_or_else(|error| failed(error));
        orders.extend(page.commands.iter().map(|row| row.order));
        words.extend(page.commands.iter().map(|row| format!("{row:?}")));
    }
    words.extend(
        orders.into_iter().map(|id| format!("{:?}", rest.order(id).unwrap_or_else(|error| failed(error)))),
    );
    words
}

/// Loses power at each operation of the move, with several images of each; how many were tried.
pub(crate) fn try_all(format: &str, images_each: u64) -> usize {
    let base = earlier(format);
    let disk = Disk::with(base);
    let whole = found(&disk, "a sound disk");
    let rows = whole.iter().filter(|words| words.contains("CommandRow")).count();
    assert!(rows > 0, "{format} has commands at rest, not only {whole:#?}");
    let tape = disk.tape();
    let mut tried = 0;
    for n in 0..=tape.operations() {
        for seed in 0..images_each {
            let what = format!("{format}, power lost at {n} of {}, image {seed}", tape.operations());
            let left = disk.crash(n, &mut Random::new(seed * 1_000_003 + n as u64));
            assert_eq!(found(&Disk::with(left), &what), whole, "{what}");
            tried += 1;
        }
    }
    tried
}
