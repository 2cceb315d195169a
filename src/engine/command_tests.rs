//! Rows in, rows out: whatever a command went through, it comes back from its row the same.

use super::*;

fn accepted() -> Command {
    let row = AcceptedRow {
        id: CommandId { server: ServerId(1), seq: Seq(3 * 64) },
        after: Some(Seq(2 * 64)),
        text: "text".into(),
        player: Some(Player { name: "Steve".into(), uuid: Some(0) }),
        require_online: true,
        not_before: Some(UnixMs(5)),
        expires_at: None,
        on_doubt: OnDoubt::Rerun,
        labels: Some(Box::default()),
    };
    Command::accepted(row, Seq(64), UnixMs(1000), 0)
}

fn row(command: &Command) -> CommandRow {
    command.row(ServerId(1), StoreId(1))
}

fn change(command: &Command, status: Status, note: Note, error: Option<&str>) -> StatusChange {
    StatusChange {
        id: row(command).id,
        rev: command.rev + 1,
        status,
        at: UnixMs(2000 + u64::from(command.rev)),
        attempt: command.attempt,
        retries: 1,
        unanswered: 2,
        next_at: (status == Status::Pending).then_some(UnixMs(9000)),
        note,
        error: error.map(Into::into),
        output: None,
    }
}

#[test]
fn a_row_tells_everything() {
    let mut command = accepted();
    let steps: [(Status, Note, Option<&str>); 9] = [
        (Status::AwaitingPlayer, Note::PlayerAbsent, None),
        (Status::Pending, Note::PlayerJoined, None),
        (Status::Delivered, Note::StillHeld, None),
        (Status::Pending, Note::RetryScheduled, Some("error")),
        (Status::Failed, Note::RetriesExhausted, Some("again")),
        (Status::Pending, Note::Operator, None),
        (Status::InDoubt, Note::PluginInDoubt, None),
        (Status::Cancelled, Note::Operator, None),
        (Status::Cancelled, Note::LateResult, None),
    ];
    for (count, (status, note, error)) in steps.into_iter().enumerate() {
        command.apply_status(&change(&command, status, note, error));
        let told = row(&command);
        assert_eq!(told.history.len(), count + 2);
        let last = told.history.last().unwrap();
        assert_eq!((last.status, last.note, last.error.as_deref()), (status, note, error));
        let back = Command::restored(told.clone(), 0);
        assert_eq!(row(&back), told);
        assert_eq!(back.note, command.note, "{note:?}");
        assert_eq!(told.order.seq, Seq(64));
    }
    assert_eq!(row(&command).error.as_deref(), Some("again"));
}

#[test]
fn the_common_history_needs_no_list() {
    let mut command = accepted();
    command.rare = None;
    command.apply_plain(Status::Delivered, 2, UnixMs(1007));
    command.apply_plain(Status::Completed, 3, UnixMs(1009));
    assert!(command.rare.is_none());
    let story: Vec<(Status, u64)> =
        row(&command).history.iter().map(|entry| (entry.status, entry.at.0)).collect();
    assert_eq!(story, [(Status::Pending, 1000), (Status::Delivered, 1007), (Status::Completed, 1009)]);
}

#[test]
fn an_edit_is_not_why_a_command_is_pending() {
    let mut command = accepted();
    command.apply_plain(Status::Delivered, 2, UnixMs(1007));
    command.apply_status(&change(&command, Status::Pending, Note::ConnectionLost, None));
    command.apply_edit(4, UnixMs(3000));
    let back = Command::restored(row(&command), 0);
    assert_eq!((back.note, command.note), (Note::ConnectionLost, Note::ConnectionLost));
    assert!(back.is_lost());
    assert_eq!(row(&back), row(&command));
}
