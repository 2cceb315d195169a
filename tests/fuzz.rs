//! The inputs that the fuzzer found worth keeping, replayed: targets that no other test has at hand.

#[path = "../fuzz/check_config.rs"]
mod check_config;
#[path = "../fuzz/check_ledger.rs"]
mod check_ledger;
#[path = "../fuzz/check_login.rs"]
mod check_login;
#[path = "../fuzz/corpus.rs"]
mod corpus;

#[test]
fn only_what_was_given_out_is_let_in() {
    corpus::replay("login", check_login::check_login);
}

#[test]
fn settings_are_good_or_refused_by_name() {
    corpus::replay("config", check_config::check_config);
}

#[test]
fn a_damaged_ledger_forgets_nothing_that_was_durable() {
    corpus::replay("ledger", check_ledger::check_ledger);
}
