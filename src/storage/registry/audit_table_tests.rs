//! Tests of the audit trail's tables, over memory.

use redb::Builder;
use redb::backends::InMemoryBackend;

use super::*;
use crate::credentials::Scope;
use crate::ids::{KeyId, StoreId};
use crate::storage::registry::{Actor, AuditAction, AuditOutcome, AuditTarget, Who};

struct Book {
    db: Arc<Database>,
    file: DbFile,
    shares: Shares,
    next: u64,
}

impl Book {
    fn new() -> Book {
        let db = Arc::new(Builder::new().create_with_backend(InMemoryBackend::new()).unwrap());
        let file = DbFile::new(std::path::Path::new("test"));
        Book { db, file, shares: Shares::new(), next: 1 }
    }

    /// Writes one record of a store (0 = the admin).
    fn write(&mut self, store: u32, at: u64, bounds: Bounds) {
        let who = match store {
            0 => Who::Admin,
            _ => Who::Key { id: KeyId(store), scope: Scope::Publish, store: StoreId(store) },
        };
        let record = AuditRecord {
            id: AuditId(self.next),
            at: UnixMs(at),
            action: if at.is_multiple_of(2) { AuditAction::CommandEdited } else { AuditAction::KeyRemoved },
            outcome: AuditOutcome::Done,
            by: Actor { who, address: None },
            on: AuditTarget::default(),
        };
        self.next += 1;
        self.change(|trail| trail.append(&record, bounds));
    }

    fn change(&mut self, change: impl FnOnce(&mut Trail<'_>) -> Result<(), StorageError>) {
        let transaction = self.db.begin_write().unwrap();
        {
            let mut trail = Trail::open(&transaction, &mut self.shares, &self.file).unwrap();
            change(&mut trail).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn reader(&self) -> AuditReader {
        AuditReader::new(Arc::clone(&self.db), self.file.clone())
    }

    fn ids(&self, query: &AuditQuery) -> (Vec<u64>, Option<u64>) {
        let page = self.reader().page(query).unwrap();
        (page.records.iter().map(|record| record.id.0).collect(), page.next.map(|id| id.0))
    }

    fn all(&self) -> Vec<u64> {
        self.ids(&AuditQuery { limit: usize::MAX, ..AuditQuery::default() }).0
    }
}

const WIDE: Bounds = Bounds { all: 1000, per_store: 1000 };

#[test]
fn pages_go_from_the_newest_back_and_end() {
    let mut book = Book::new();
    for at in 1..=5 {
        book.write(1, at, WIDE);
    }
    let page = |before: Option<u64>, limit| AuditQuery {
        before: before.map(AuditId),
        limit,
        ..AuditQuery::default()
    };
    assert_eq!(book.ids(&page(None, 2)), (vec![5, 4], Some(4)));
    assert_eq!(book.ids(&page(Some(4), 2)), (vec![3, 2], Some(2)));
    assert_eq!(book.ids(&page(Some(2), 2)), (vec![1], None));
    assert_eq!(book.ids(&page(Some(1), 2)), (vec![], None));
    assert_eq!(book.ids(&page(None, 5)), (vec![5, 4, 3, 2, 1], None), "no cursor where nothing follows");
}

#[test]
fn a_page_is_of_a_span_and_of_an_action() {
    let mut book = Book::new();
    for at in 1..=6 {
        book.write(1, at, WIDE);
    }
    let query = |from: u64, to: u64, action| AuditQuery {
        from: Some(UnixMs(from)),
        to: Some(UnixMs(to)),
        action,
        limit: 10,
        ..AuditQuery::default()
    };
    assert_eq!(book.ids(&query(2, 5, None)), (vec![4, 3, 2], None), "from counts, to does not");
    assert_eq!(book.ids(&query(0, 9, Some(AuditAction::CommandEdited))), (vec![6, 4, 2], None));
    assert_eq!(book.ids(&query(5, 5, None)), (vec![], None));
}

#[test]
fn one_call_looks_at_a_bounded_number_and_says_where_to_go_on() {
    let mut book = Book::new();
    let bounds = Bounds { all: u64::MAX, per_store: u64::MAX };
    let transaction_of_many = AUDIT_ROWS_READ_MAX as u64 + 3;
    let records: Vec<AuditRecord> = (1..=transaction_of_many)
        .map(|id| AuditRecord {
            id: AuditId(id),
            at: UnixMs(id),
            action: AuditAction::KeyCreated,
            outcome: AuditOutcome::Done,
            by: Actor::LOCAL,
            on: AuditTarget::default(),
        })
        .collect();
    book.change(|trail| records.iter().try_for_each(|record| trail.append(record, bounds)));
    let none = AuditQuery { to: Some(UnixMs(3)), limit: 10, ..AuditQuery::default() };
    assert_eq!(book.ids(&none), (vec![], Some(4)));
    let rest = AuditQuery { before: Some(AuditId(4)), ..none };
    assert_eq!(book.ids(&rest), (vec![2, 1], None));
}

#[test]
fn a_store_that_fills_its_share_loses_its_own_oldest_and_nobody_elses() {
    let mut book = Book::new();
    let bounds = Bounds { all: 100, per_store: 3 };
    book.write(0, 1, bounds);
    book.write(2, 1, bounds);
    for at in 0..50 {
        book.write(1, at, bounds);
    }
    assert_eq!(book.all(), [52, 51, 50, 2, 1]);
}

#[test]
fn when_the_trail_is_full_the_oldest_goes() {
    let mut book = Book::new();
    let bounds = Bounds { all: 4, per_store: 3 };
    for store in [0, 1, 2, 3, 1, 2] {
        book.write(store, 1, bounds);
    }
    assert_eq!(book.all(), [6, 5, 4, 3]);
}

#[test]
fn what_is_old_goes_but_for_the_newest_and_the_numbers_go_on() {
    let mut book = Book::new();
    for at in [10, 20, 30] {
        book.write(1, at, WIDE);
    }
    book.change(|trail| trail.expire(UnixMs(20)));
    assert_eq!(book.all(), [3, 2]);
    assert_eq!(book.reader().oldest().unwrap(), Some(UnixMs(20)));
    book.change(|trail| trail.expire(UnixMs(1000)));
    assert_eq!(book.all(), [3]);
    let mut next = 0;
    book.change(|trail| {
        next = trail.take_stock()?;
        Ok(())
    });
    assert_eq!((next, book.shares.get(&1)), (4, Some(&1)));
}
