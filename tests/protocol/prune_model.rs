//! The prune protocol of docs/prune.md as a model (`tests/support/model`), explored to its end. With BAKFS_LONG=1 larger
//! models are explored.

use bakfs_model::{Explored, Flaw, Listing, Plans, Rules, explore};

/// One writer and two prunes of a repository in which one snapshot is forgotten.
const BASE: Rules = Rules {
    writers: 1,
    pruners: 2,
    user: false,
    index: false,
    cleanup: false,
    unanswered: false,
    remembers: false,
    short: false,
    replays: false,
    plans: Plans::All,
    listing: Listing::Exact,
    flaw: None,
};

fn is_long() -> bool {
    std::env::var_os("BAKFS_LONG").is_some_and(|value| value == "1")
}

fn run(rules: Rules) -> Explored {
    let started = std::time::Instant::now();
    let found = explore(&rules);
    let mut what = format!("{} writers, {} pruners", rules.writers, rules.pruners);
    for (is_so, name) in [
        (rules.user, "a user"),
        (rules.index, "an index"),
        (rules.cleanup, "cleaning up"),
        (rules.unanswered, "puts without answer"),
        (rules.remembers, "word of what was seen"),
        (rules.short, "short listings"),
        (rules.replays, "marks that come back"),
        (rules.plans == Plans::Repack, "repacking only"),
    ] {
        what += &if is_so { format!(", {name}") } else { String::new() };
    }
    let flaw = rules.flaw.map_or("as documented".into(), |flaw| format!("{flaw:?}"));
    let outcome =
        found.fault.as_ref().map_or("0 violations".into(), |(fault, way)| format!("{} steps to: {fault}", way.len()));
    println!(
        "{flaw} ({what}, {:?} listing): {} states, {} steps, depth {}, {:.1} s: {outcome}",
        rules.listing,
        found.states,
        found.steps,
        found.depth,
        started.elapsed().as_secs_f64(),
    );
    found
}

fn way_of(found: &Explored) -> String {
    found.fault.as_ref().map_or(String::new(), |(_, way)| format!("  {}", way.join("\n  ")))
}

fn holds(rules: Rules) -> u32 {
    let found = run(rules);
    assert!(found.fault.is_none(), "{rules:?}:\n{}", way_of(&found));
    found.sights
}

#[test]
fn the_protocol_holds() {
    let mut models = vec![
        Rules { writers: 2, pruners: 1, user: true, ..BASE },
        BASE,
        Rules { writers: 0, pruners: 3, ..BASE },
        Rules { writers: 2, plans: Plans::Repack, ..BASE },
        Rules { writers: 2, pruners: 1, index: true, cleanup: true, ..BASE },
        Rules { index: true, ..BASE },
        Rules { cleanup: true, plans: Plans::Repack, ..BASE },
        Rules { user: true, plans: Plans::Repack, ..BASE },
        Rules { unanswered: true, plans: Plans::Repack, ..BASE },
        Rules { remembers: true, short: true, plans: Plans::Repack, ..BASE },
        Rules { writers: 0, pruners: 1, user: true, replays: true, short: true, ..BASE },
    ];
    if is_long() {
        models.extend([
            Rules { writers: 2, ..BASE },
            Rules { user: true, ..BASE },
            Rules { cleanup: true, ..BASE },
            Rules { remembers: true, short: true, ..BASE },
            Rules { writers: 0, pruners: 3, remembers: true, short: true, ..BASE },
            Rules { writers: 0, user: true, replays: true, short: true, remembers: true, ..BASE },
            Rules { unanswered: true, user: true, plans: Plans::Repack, ..BASE },
            Rules { writers: 0, pruners: 3, unanswered: true, plans: Plans::Repack, ..BASE },
            Rules { writers: 2, index: true, plans: Plans::Repack, ..BASE },
        ]);
    }
    let sights = models.into_iter().map(holds).fold(0, |all, sights| all | sights);
    // What ought to be possible was seen: the model is not empty. Bits as in `sights`.
    for (bit, what) in [
        "packs were deleted beside successful backups",
        "a prune came to its end",
        "a prune that was taken over came to its end",
        "a fenced backup failed",
        "a revoked snapshot appeared",
        "a snapshot was brought back beside a prune",
        "an undo came too late",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(sights & 1 << bit != 0, "never seen: {what}");
    }
}

#[test]
fn known_bad_designs_are_found() {
    let small = Rules { pruners: 1, ..BASE };
    let prunes = Rules { writers: 0, ..BASE };
    let mut designs = vec![
        (Flaw::SessionsExpire, small),
        (Flaw::OneSessionAwaited, Rules { writers: 2, ..small }),
        (Flaw::ParallelPrunes, prunes),
        (Flaw::NoIntents, small),
        (Flaw::PacksBeforeMarks, small),
        (Flaw::NoCheckAfterVerdict, prunes),
        (Flaw::EndWhenUncertain, small),
        (Flaw::DecideForOthers, Rules { pruners: 3, ..prunes }),
        (Flaw::CondemnedDropped, prunes),
        (Flaw::DoomedReleased, Rules { pruners: 3, ..prunes }),
        (Flaw::PacksBeforeSession, prunes),
        (Flaw::PacksBeforeCondemned, prunes),
        (Flaw::UnseenVerdictsDeleted, BASE),
        (Flaw::RemovedForEver, Rules { user: true, ..prunes }),
        (Flaw::UncheckedUndo, Rules { writers: 0, user: true, ..small }),
        (Flaw::FencesForgotten, Rules { cleanup: true, ..BASE }),
        (Flaw::IndexByCondemned, Rules { index: true, ..small }),
        (Flaw::UndoNotRecalled, Rules { writers: 0, user: true, replays: true, ..small }),
        (Flaw::OpenVerdictsReplaced, Rules { pruners: 3, ..prunes }),
        (Flaw::ShortListingBelieved, Rules { writers: 0, short: true, ..small }),
    ];
    if is_long() {
        designs.push((Flaw::OldCensusTrusted, Rules { user: true, ..BASE }));
        designs.push((Flaw::IndexTrusted, Rules { writers: 2, index: true, plans: Plans::Repack, ..BASE }));
    }
    for (flaw, rules) in designs {
        let found = run(Rules { flaw: Some(flaw), ..rules });
        assert!(found.fault.is_some(), "{flaw:?} was not found");
        println!("{}", way_of(&found));
    }
}

/// A store whose listings lag behind needs a pause after every put and delete, until all see it.
#[test]
fn stale_listings_need_a_settle_step() {
    let small = Rules { pruners: 1, ..BASE };
    let found = run(Rules { listing: Listing::Stale, ..small });
    println!("Lost where listings are stale, without a settle step:\n{}", way_of(&found));
    assert!(found.fault.is_some(), "stale listings are harmless: the model does not show them");
    let settled = Listing::StaleAndSettled;
    holds(Rules { listing: settled, ..small });
    holds(Rules { listing: settled, user: true, ..small });
    holds(Rules { listing: settled, writers: 2, ..small });
    if is_long() {
        holds(Rules { listing: settled, ..BASE });
    }
}
