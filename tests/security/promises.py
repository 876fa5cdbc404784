"""Every promise about secrecy, four eyes and proof that README and docs make, with the tests that keep it.

A quote is a piece of the page as it stands there; `test_promises.py` finds it, and each test. Each row of a table of
the threat model is one, and so is each sentence of the other pages that speaks of two people or of secrecy.
"""

from __future__ import annotations

TRUST = ""
"""What isn't promised: the page says that nothing stops it, or explains what is said elsewhere."""

_BOOKS, _LISTED = "security/test_books.py::", "unit/test_trust.py::"
_CLIENTS = "security/test_bank_clients.py::"
_ACCESS = "security/test_access.py::test_everybody_gets_what_the_table_says"
_ASSERTIONS = "forgeries/test_forged_assertions.py::test_forgery_is_refused_for_its_reason"
_ACCOUNTS = "integration/test_accounts.py::"
_UNBLOCKED = _ACCOUNTS + "test_a_block_is_lifted_by_two"
_OWING, _EXPOSURE = "security/test_owing_beyond_limits.py::", "integration/test_exposure.py::"
_CANCELLED, _RETURNED = "integration/test_cancellations.py::", "integration/test_returns.py::"
_RECALLED = "security/test_hostile_recalls.py::"
_INVITED, _KEYS = "security/test_invitations.py::", "security/test_keys_refused.py::"
_WITHDRAWN, _SCHEMES = "security/test_withdrawn.py::", "integration/test_schemes.py::"
_SETTLED, _DECIDED = "security/test_settlement_forgeries.py::", "security/test_operator_decisions.py::"
_LYING, _SHOWN = "security/test_lying_result.py::", "unit/test_shown_result.py::"
_SEEN, _LIES = "security/test_what_a_participant_sees.py::", "forgeries/test_coordinator_lies.py::test_a_lie_is_refused"
_MOVED, _FORGED = "unit/test_movements.py::", "forgeries/test_export_lies.py::"
_EXPORTED, _EMBEDDED = "forgeries/test_export_forgeries.py::", "security/test_embedded_postgres.py::"
_PRIVATE, _LOGGED = "security/test_private_port.py::", "security/test_security_log.py::"
_ADOPTED = "security/test_rulebook_adoption.py::"
_SIGNED_LIES = "forgeries/test_signed_lies.py::test_a_lie_is_refused"
_STATES = "integration/test_cycle_decisions.py::"
_MAKER_CHECKS = _STATES + "test_the_maker_is_never_the_checker"
_ALONE = _DECIDED + "test_nobody_changes_the_registry_alone"
_SECRECY = "simulation/test_secrecy.py::test_no_payment_leaves_its_two_banks"
_FILES = "integration/test_intake_files.py::"
_WEAKENED = " ".join(
    _BOOKS + of for of in ("test_nobody_weakens_a_list_alone", "test_nobody_gains_names_to_take_out_by_adding")
)
_MOVEMENTS = _SETTLED + "test_a_bank_notices_what_the_agent_moves_by_itself"
_ENTITLED = _SETTLED + "test_what_the_coordinator_is_not_entitled_to_moves_nothing"

_FAULTS = "unit/test_reconciliation_faults.py::"
_COMPARED, _RECONCILED = "security/test_lying_reconciliation.py::", "integration/test_reconciliation.py::"

Promises = dict[str, str]
"""By quote: the tests that keep it, with spaces between; `TRUST` where there is nothing to keep."""

_SHARES = "security/test_shares_of_members.py::"

TRUST_MODEL: Promises = {
    "| the same | to fill another one's memory, or to keep its other senders waiting,": f"{_SHARES}"
    f"test_batches_that_never_end_are_few_and_in_nobodys_way {_SHARES}test_recalls_that_never_end",
    "| a member in good standing | to hold up everybody's attestations:": f"{_SHARES}"
    f"test_a_cycle_takes_few_submissions_of_a_bank_at_once {_SHARES}test_a_document_of_too_many_values_is_none",
    "| the same | to take up the coordinator's connections with long polls": f"{_SHARES}"
    "test_who_waits_for_news_often_leaves_others_their_wait",
    "| the same | to make an export large,": "integration/test_submission_bounds.py::"
    "test_a_further_attestation_is_kept_for_what_it_adds",
    "| somebody takes the ids that a payment file's rows will have,": " ".join(
        "security/test_ids_of_rows.py::" + of
        for of in ("test_an_id_that_is_taken_keeps_no_row_from_being_paid", "test_only_its_maker_adds_to_a_batch")
    ),
    "| a bank writes a name that reads otherwise than it stands": "security/test_texts_of_other_banks.py::"
    "test_texts_are_judged_where_they_come_in unit/test_screening_matcher.py::test_a_name_is_read_in_both_directions",
    "| one client takes every place of the feed": "security/test_feed_shares.py::"
    "test_a_client_has_its_share_and_others_have_theirs",
    # Whose books differ
    "| to have something adopted: a payment, an amount, a number |": _COMPARED
    + "test_records_that_are_made_up_change_nothing "
    + f"{_RECONCILED}test_a_lost_answer_is_asked_for_and_posts_the_payment",
    "| to hide a difference, or to invent one in a tree or a set |": f"{_COMPARED}test_a_lane_that_is_lied_about"
    f" {_COMPARED}test_a_set_that_is_lied_about {_FAULTS}test_who_hides_a_payment_of_its_own_is_found_out",
    "| to take memory or time: endless answers, symbols": f"{_COMPARED}test_questions_are_bounded"
    f" {_COMPARED}test_a_set_that_is_lied_about {_FAULTS}test_taking_apart_ends_whatever_somebody_wrote",
    "| to see payments with other banks |": _COMPARED + "test_nobody_is_told_of_lanes_of_others",
    "| a customer who chooses payments |": f"{_FAULTS}test_an_id_is_blake2b_under_the_secret"
    f" {_FAULTS}test_another_secret_is_another_set",
    "| who records or answers the agreement of that key |": f"{_COMPARED}test_halves_of_a_secret_that_are_refused"
    f" {_COMPARED}test_a_half_that_somebody_else_signed_is_refused",
    "| the coordinator | to learn what differs |": _SECRECY,
    # Who believes whom
    "| a bank | another bank |": "integration/test_members_speak.py::test_assertions_that_do_not_count",
    "| a bank | the agent |": _SETTLED + "test_a_bank_speaks_for_itself_and_only_while_it_is_a_member",
    "| a bank, the agent, an operator, an auditor | the coordinator |": _ACCESS,
    "| the coordinator | the agent |": _ACCESS,
    "| a bank's or the agent's own people,": _ACCESS,
    "| meant for another bank, or for the coordinator |": _ASSERTIONS,
    "| ended; begins more than 10 seconds": "forgeries/test_forged_assertions.py::"
    "test_the_clock_may_be_ten_seconds_off_but_the_end_is_exact " + _ASSERTIONS,
    "| a key that the list doesn't name as an active": _ASSERTIONS,
    "| `alg` none,": _ASSERTIONS,
    "| a client assertion, made for the token endpoint |": "forgeries/test_forged_assertions.py::"
    "test_an_assertion_opens_neither_the_coordinator_nor_its_token_endpoint",
    "| the coordinator, or the agent | 403": _BOOKS + "test_no_word_of_the_coordinator_opens_anything",
    "| a member who is approved only, suspended,": _ACCESS,
    # What others owe
    "| to owe without limit:": _OWING
    + "test_a_flood_of_batches_at_two_nodes_stays_within_the_ceiling "
    + _OWING
    + "test_who_comes_near_its_limit_is_told_of",
    "| the same | to make room:": _EXPOSURE
    + "test_a_dispute_makes_no_room "
    + _EXPOSURE
    + "test_a_return_makes_no_room_and_one_that_fails_takes_none "
    + _EXPOSURE
    + "test_a_held_payment_is_released_only_where_there_is_room",
    "| the same, where nobody granted a limit |": _OWING
    + "test_who_grants_no_limit_has_the_schemes "
    + _EXPOSURE
    + "test_without_any_word_there_is_a_limit_too",
    "| to raise what a bank granted |": _OWING + "test_a_ceiling_is_the_banks_own_whatever_is_granted",
    "| the same | to lower it |": TRUST,
    "| to accept beyond the limit |": _EXPOSURE + "test_fsck_names_the_payment_that_went_beyond",
    # What is taken back
    "| to cancel what the receiver has accepted |": _CANCELLED + "test_what_is_in_stays_in_with_its_number",
    "| to bring in later what was cancelled |": _CANCELLED
    + "test_what_is_not_in_is_out_for_good "
    + "integration/test_cancelling_at_banks.py::"
    + "test_what_is_cancelled_while_the_other_bank_is_away_never_gets_in",
    "| to say that a payment was cancelled that nobody cancelled |": _CANCELLED
    + "test_a_bank_that_says_of_its_own_accord_that_it_was_cancelled_is_not_believed",
    "| to say that a cancelled payment isn't in, and to credit it |": _CANCELLED
    + "test_both_banks_agree_whatever_comes_first",
    "| to take back what the receiver holds |": _CANCELLED + "test_what_the_other_bank_holds_its_people_decide",
    "| to give back more than was paid,": _RETURNED
    + "test_returns_at_once_from_two_nodes_never_exceed_the_payment "
    + _RETURNED
    + "test_a_hostile_bank_gives_nothing_back_beyond_the_payment "
    + _RETURNED
    + "test_a_return_that_fails_gives_its_part_back "
    + _RETURNED
    + "test_fsck_finds_a_part_that_no_return_pays",
    "| to flood another one with recalls |": _RECALLED
    + "test_a_flood_of_recalls_is_one_recall "
    + _RECALLED
    + "test_a_payment_is_recalled_so_often_and_no_more "
    + _RECALLED
    + "test_what_it_may_not_recall_leaves_nothing",
    "| to have money moved by a recall |": _RECALLED + "test_a_flood_of_recalls_is_one_recall",
    "| to deny that it was asked,": "integration/test_recalls.py::test_people_give_back_a_part",
    "| never to answer |": TRUST,
    # Who comes in, and who is out
    "| applies as a bank,": _INVITED + "test_without_a_good_code_nothing_is_left_and_nothing_is_said",
    "| takes a code from it |": _INVITED + "test_without_a_good_code_nothing_is_left_and_nothing_is_said",
    "| is seen by members before": _INVITED
    + "test_an_applicant_is_published_to_nobody "
    + _INVITED
    + "test_a_refused_applicant_leaves_nothing_behind",
    "| who offers a key |": _KEYS + "test_wherever_a_key_comes_in unit/test_points.py::test_what_is_no_public_key",
    "| who stole a key |": _KEYS
    + "test_a_stolen_key_from_theft_to_return "
    + _WITHDRAWN
    + "test_nobody_signs_in_while_suspended_to_change_a_key",
    "| who kept a retired key |": _KEYS + "test_a_key_verifies_only_what_was_signed_while_it_counted",
    "| who holds a token of a member, operator or auditor": _WITHDRAWN
    + "test_a_step_by_an_operator_counts_at_the_next_request "
    + _WITHDRAWN
    + "test_an_operators_access_is_taken_away "
    + _WITHDRAWN
    + "test_every_replica_knows_within_a_second_or_so",
    "| a suspended member | reads on |": _SEEN + "test_a_suspended_participant_reads_what_it_settles_by " + _ACCESS,
    "| repeats an old list for ever |": _LISTED + "test_a_list_expires_where_nobody_says_that_it_is_the_newest",
    # One scheme, another scheme
    "of a test house is shown in the real one": _SCHEMES
    + "test_a_clearing_house_takes_nothing_of_another_and_issues_in_its_own_name "
    + _SCHEMES
    + "test_a_bank_takes_no_batch_of_another_scheme "
    + _EXPORTED
    + "test_another_scheme_altogether",
    "| made for another scheme, or for none |": _ASSERTIONS,
    "| what a member says of who it is": _SCHEMES
    + "test_an_assertion_for_another_scheme_opens_no_bank_and_no_token_endpoint",
    "| the scheme's name is changed, or taken away |": _SCHEMES + "test_another_name_is_refused",
    "| a coordinator's key founds two schemes": _SCHEMES + "test_an_anchor_believes_no_trust_list_of_another_scheme",
    # A bank's books
    "| `orders` |": _BOOKS + "test_who_may_do_what",
    "| `screening` |": _BOOKS + "test_who_may_do_what",
    "| `lists` |": _BOOKS + "test_who_may_do_what",
    "| `accounts` |": _BOOKS + "test_who_may_do_what",
    "| `events` |": _BOOKS + "test_who_may_do_what",
    "| `read` |": _BOOKS + "test_a_reader_s_scope_is_a_limit",
    "| the coordinator writes a token for itself": _BOOKS + "test_no_word_of_the_coordinator_opens_anything",
    "| the coordinator names a key of its own": TRUST,
    "| a clerk releases the payment that he ordered,": _BOOKS + "test_who_ordered_a_payment_does_not_release_it",
    "| somebody writes a payment into a text of a payment file,": _FILES + "test_what_pays_nobody",
    "| whoever sends a file that is reconciled makes rows match": " ".join(
        (
            "unit/test_matching_engine.py::test_references_that_speak_against_each_other_may_be_passed_over_by_the_rules",
            "unit/test_matching_engine.py::test_files_made_to_be_hard_take_bounded_time",
            "security/test_texts_of_compared_files.py::test_a_page_has_no_element_of_a_files_making",
            "security/test_texts_of_compared_files.py::test_a_terminal_is_shown_escapes_and_markup_as_they_stand",
        )
    ),
    "| whoever sends a file of statements makes it cost memory": " ".join(
        "security/test_hostile_statements.py::" + of
        for of in (
            "test_xml_that_means_harm",
            "test_an_external_entity_never_opens_a_file",
            "test_ten_megabytes_and_more_end_in_bounded_time",
            "test_more_entries_than_a_file_may_have",
            "test_a_file_cut_anywhere_never_says_less_in_silence",
        )
    ),
    "| a clerk imports a file again:": _FILES + "test_a_corrected_resaved_and_reordered_file_pays_only_what_is_new",
    "| a clerk opens an account with money": _BOOKS + "test_nobody_makes_money_alone",
    "| a clerk deposits money that never came,": _ACCOUNTS
    + f"test_a_deposit_takes_two_people_and_is_made_once {_ACCOUNTS}test_one_slip_is_booked_once",
    "| a clerk lifts a block,": _UNBLOCKED,
    "| a clerk takes a customer's money,": _ACCOUNTS + "test_a_withdrawal_and_a_fee_take_one_person",
    "| a clerk closes an account": _ACCOUNTS + "test_an_account_closes_empty_with_nothing_waiting",
    "| another bank asks who is blocked,": _ACCOUNTS + "test_a_blocked_account_pays_nothing_and_takes_nothing",
    "| a clerk takes names out of a sanctions list,": _WEAKENED,
    "| a thief of a client's key |": _CLIENTS + "test_who_is_revoked_is_out_and_so_is_every_token_of_before",
    "| a client asks for a role or for books": f"{_CLIENTS}test_nobody_gets_more_than_was_granted"
    f" {_CLIENTS}test_an_assertion_counts_once_here_and_soon_not_at_all",
    "| one person, under two clients' names,": _CLIENTS + "test_a_key_has_one_owner_for_good",
    "| a thief of a token `events` has the books sent": "security/test_webhook_targets.py::"
    "test_nobody_has_a_bank_send_its_books_elsewhere",
    "| whoever reads or copies the bank's database |": "integration/test_webhooks.py::"
    "test_events_come_in_order_and_signed",
    "| a thief of one token |": _BOOKS + "test_who_may_do_what",
    # Records that prove themselves
    "| the coordinator, about a net,": f"{_LIES} {_FORGED}test_an_altered_net {_FORGED}test_a_forged_certificate",
    "| about a check:": _LIES,
    "| about what a bank stated: a position": (
        "forgeries/test_attestation_lies.py::test_a_lie_about_an_attestation_is_refused"
    ),
    "| about why a pair is carried over,": f"{_LIES} {_FORGED}test_a_matched_pair_carried_over_for_a_false_reason",
    "| about who takes part,": _LIES,
    "| about time:": _LIES,
    "| about people:": f"{_LIES} {_FORGED}test_the_maker_is_the_checker {_FORGED}test_an_approval_that_nobody_gave",
    "| about the log:": _LIES,
    "| about limits |": _LIES,
    "| by writing the older format |": "forgeries/test_coordinator_lies.py::"
    "test_a_lie_in_the_format_before_is_refused_too",
    "| whoever sends a file, about its form:": "forgeries/test_hostile_archives.py::"
    "test_verifying_takes_at_most_three_times_the_archives_size "
    "forgeries/test_hostile_archives.py::test_names_that_steer_a_terminal",
    "| the coordinator, about the clock,": TRUST,
    # Who moves money
    "| asks the agent to settle |": _SETTLED + "test_a_stolen_token_alone_settles_nothing",
    "| the same, with a request that was recorded |": _SETTLED + "test_a_stolen_token_alone_settles_nothing",
    "| asks for other amounts than the result,": _ENTITLED,
    "| settles what nobody approved,": _ENTITLED,
    "| whoever loses or withholds the agent's answer |": _SETTLED
    + "test_what_was_answered_is_answered_again_whoever_operates_by_now",
    "| puts another past in the journal's place": "security/test_forged_journal_archives.py::"
    "test_what_isnt_the_part_that_was_taken_out_is_not_put_back"
    " security/test_forged_journal_archives.py::test_a_digest_in_the_database_is_not_enough"
    " security/test_forged_journal_archives.py::test_a_bomb_takes_no_memory",
    "| lets one person do what takes two |": "integration/test_fsck_people.py::test_one_person_is_found",
    "| about the agent: its answer to another cycle": _SIGNED_LIES,
    "| invents an act of operators,": "forgeries/test_surrounding_lies.py::"
    "test_what_operators_did_is_counted_and_named",
    "| invents in the log what no document says:": "forgeries/test_surrounding_lies.py::"
    "test_a_lie_about_what_went_on_is_refused",
    "| when operators decided: an old signature,": _SIGNED_LIES,
    "| proposes a change without saying from what,": _DECIDED
    + "test_what_is_not_changed_from_there_is_not_carried_out",
    "| whoever has the coordinator's machine | another rulebook,": _ADOPTED + "test_a_file_alone_changes_no_rules",
    "its caps and prefunding are 0 from its application on": _INVITED
    + "test_a_bank_that_returns_may_owe_nothing_until_operators_say_so",
    "| works for a day on which the currency doesn't settle,": (
        "security/test_value_date_lies.py::test_a_far_value_date_is_believed_by_no_bank "
        "unit/test_value_dates.py::test_a_value_date_is_the_day_of_the_cut_or_the_next_that_settles"
    ),
    "| opens a cycle for a day far away,": (
        "integration/test_closed_currencies.py::test_one_operator_opens_a_cycle_for_today_or_the_next_day_that_settles"
    ),
    "| settles a cycle twice,": _SETTLED + "test_a_cycle_settles_once_and_never_by_an_older_edition",
    "| signs a result that doesn't follow": _LYING
    + "test_a_pair_that_is_counted_for_one_bank_only_is_found_by_both "
    + _MOVEMENTS,
    "| says that the agent settled |": _MOVEMENTS
    + " forgeries/test_settlement_lies.py::test_a_lie_about_the_settlement_is_found",
    "| whoever answers in the agent's place |": _SETTLED + "test_no_answer_is_believed_that_the_agent_did_not_sign",
    "| moves money without a cycle,": _MOVEMENTS,
    "| tells one thing today": _MOVEMENTS,
    "| reads a bank's account at the agent": _SETTLED
    + "test_a_bank_speaks_for_itself_and_only_while_it_is_a_member "
    + _ACCESS,
    # What operators decide
    "| a thief of an operator's token |": _DECIDED + "test_a_token_alone_decides_nothing",
    "| speaks for another, under another spelling": _DECIDED
    + "test_nobody_is_let_in_as_two_people unit/test_decisions.py::test_one_key_under_two_names_is_one_person "
    "unit/test_person.py::test_spellings_of_one_name",
    "| shows one act and has another signed |": "unit/test_decisions.py::test_what_is_done_is_what_was_signed "
    + _DECIDED
    + "test_a_signature_is_over_this_act",
    "| whoever kept a signature |": _DECIDED
    + "test_a_signature_decides_once "
    + _DECIDED
    + "test_a_signature_is_over_this_act",
    "| an approval that nobody gave |": _DECIDED + "test_an_export_with_other_decisions_doesnt_verify",
    "| an operator's key, swapped for one of its own |": _SETTLED + "test_a_register_of_operators_never_goes_back",
    "| that a cycle is of before there were signatures": "forgeries/test_coordinator_lies.py::"
    "test_the_format_before_verifies_and_says_what_it_cannot_prove",
    "| an operator who was removed |": _DECIDED + "test_who_was_removed_decides_nothing_more",
    # What a participant sees
    "| active | what is its own |": _SEEN + "test_what_an_active_participant_reads_names_no_other_s_numbers",
    "| suspended | what it needs": _SEEN + "test_a_suspended_participant_reads_what_it_settles_by",
    "| approved | its own entry,": _ACCESS + " unit/test_audience.py::test_a_participant_sees_by_its_standing",
    "| applied, left, unknown | nothing |": _ACCESS,
    # When the coordinator lies about a result
    "| counts a pair for one bank": _LYING
    + "test_a_pair_that_is_counted_for_one_bank_only_is_found_by_both "
    + _LYING
    + "test_one_result_that_says_two_things_of_a_pair_is_found_by_both",
    "| puts another statement": _SHOWN + "test_an_instruction_follows_from_what_its_bank_is_shown",
    "| changes what a bank receives,": _SHOWN + "test_an_instruction_follows_from_what_its_bank_is_shown",
    "| leaves a pair out and says nothing |": _SHOWN + "test_a_pair_that_was_signed_is_settled_or_carried_over",
    "| carries a pair over for a reason that isn't true |": _FORGED
    + "test_a_matched_pair_carried_over_for_a_false_reason",
    "| instructs by another result than it proves,": _SHOWN
    + "test_an_instruction_is_of_the_result_that_is_proven "
    + _SHOWN
    + "test_a_bank_with_a_position_is_instructed",
    "| proves nothing any more |": _LYING + "test_who_has_proved_a_result_once_proves_every_one",
    "| shows all banks one result": "forgeries/test_committed_root.py::"
    "test_the_verifier_says_which_root_the_banks_of_a_result_were_shown",
    "| invents a position of a bank that doesn't check,": f"{_ENTITLED} {_FORGED}test_an_altered_net",
    # At the edges of a node
    "| to learn from the public port": _PRIVATE
    + "test_strangers_learn_yes_or_no_and_one_signal_ends_both_ports "
    + _PRIVATE
    + "test_strangers_learn_no_more_while_it_is_not_ready",
    "| whoever reaches the private port |": TRUST,
    "| to hide or forge a line of the log": _LOGGED
    + "test_no_subject_forges_or_loses_a_line "
    + _LOGGED
    + "test_bytes_in_heads_and_paths_forge_nothing",
    "| another user of the machine |": _EMBEDDED
    + "test_a_planted_link_inside_is_not_followed "
    + _EMBEDDED
    + "test_a_planted_directory_is_refused_and_what_it_leads_to_is_left_alone",
    "| an institution that shares an embedded server |": _EMBEDDED
    + "test_an_institution_gets_into_no_other_one_s_database",
    "| root, and whoever runs a node |": TRUST,
    # Sentences beside the tables
    "what other pages promise about secrecy, four eyes": "security/test_promises.py::"
    "test_a_sentence_that_speaks_of_it_is_in_the_table",
    "two operators sign that they approve this result": _ENTITLED,
    "by two people with two keys, are four eyes": "unit/test_decisions.py::test_two_operators_over_one_act",
    "Two names are two people as far as the bank's issuer": TRUST,
    "two operators together can do everything": TRUST,
    "until a cycle has been cut off and two operators are in": "security/test_founding.py::"
    "test_the_machine_founds_the_house_and_then_runs_it_no_more",
    "what waits for a second person": _BOOKS + "test_who_may_do_what",
    "until another person asks for the very same": _BOOKS + "test_nobody_makes_money_alone",
    "revocation and enrolment take two operators": _ALONE,
}

PROMISES: dict[str, Promises] = {
    "README.md": {
        "under four eyes, without ever seeing a payment": f"{_MAKER_CHECKS} {_SECRECY}",
        "hold payments until two people agree": "integration/test_holds.py::"
        "test_an_outgoing_payment_is_sent_after_two_people_released_it",
        "The coordinator refuses the same person twice.": _MAKER_CHECKS,
        "It checks every signature, computes the netting again, and fails on any changed byte.": _EXPORTED
        + f"test_every_flipped_byte_is_found {_FORGED}test_an_altered_net",
        "and anybody with the coordinator's public key can check the outcome offline": _EXPORTED
        + "test_the_honest_export_verifies",
    },
    "docs/architecture.md": {
        "Raw payments never leave the two banks of a payment.": _SECRECY,
        "the coordinator has no code that can name a payment": "unit/test_import_hygiene.py::"
        "test_institutions_don_t_know_each_other",
        "`approval` (four eyes)": TRUST,
        "when two operators have decided": TRUST,
        "approved by the rulebook or by two people": "unit/test_approval.py::test_why_two_persons_approve",
        "another change that takes two operators": TRUST,
        "What takes two operators has the signatures of two": f"{_DECIDED}test_a_token_alone_decides_nothing {_ALONE}",
    },
    "docs/concepts/cycle-life-cycle.md": {
        "Operators can also abandon a cycle under four eyes": _MAKER_CHECKS,
        "Two rules say when a cycle waits for two operators": "unit/test_approval.py::test_what_a_cycle_waits_for",
        "a check failed, two operators held it": _STATES
        + "test_a_failed_check_holds_the_cycle_until_two_people_release_it",
        "the rulebook asks for four eyes on the result": "unit/test_approval.py::test_a_release_is_no_approval",
        "The rulebook asks for four eyes with `approval.mode`": _FORGED + "test_when_four_eyes_are_asked_for",
        "a participant can't pay at all | two operators": _FORGED + "test_the_maker_is_the_checker",
    },
    "docs/concepts/default.md": {
        "If it can't, two operators decide.": "integration/test_default.py::test_what_is_refused",
        "where the rulebook asks for four eyes, it asks again": "integration/test_default.py::"
        "test_the_new_result_needs_the_approval_that_the_rulebook_asks_for",
        "that two persons decided on everybody who is left out": "integration/test_default.py::"
        "test_an_export_can_t_lie_about_an_unwinding",
    },
    "docs/concepts/screening.md": {
        "Names stay at the bank": "simulation/test_secrecy.py::test_a_third_bank_learns_nothing_and_logs_name_nobody",
        "**A weaker list** takes two people.": _WEAKENED,
        "once another person imports the very same against the same list in force": _WEAKENED,
        "holds the payment until two different people agree": "integration/test_holds.py::"
        "test_who_ordered_a_payment_has_no_word_on_it integration/test_holds.py::test_two_who_differ_need_a_third",
    },
    "docs/concepts/trust.md": TRUST_MODEL,
    "docs/concepts/netting.md": {
        "side by side before two operators decide": "integration/test_default.py::test_what_is_refused",
    },
    "docs/glossary.md": {
        "| four eyes | one person proposes, another decides": f"{_MAKER_CHECKS} {_BOOKS}test_nobody_makes_money_alone",
        "a payment that waits for two people": "integration/test_holds.py::test_two_who_differ_need_a_third",
    },
    "docs/guides/audit.md": {
        "That two operators decided on a change, the log alone says": TRUST,
        "Four eyes decided where the rulebook asks for it": _FORGED + "test_when_four_eyes_are_asked_for",
        "what the rulebook asks two persons for, two names gave": _FORGED + "test_the_maker_is_the_checker",
        "There is no payment, customer or account in it": _SECRECY,
        "Whatever an archive or a file's name holds is printed in one line": "forgeries/test_hostile_archives.py::"
        "test_names_that_steer_a_terminal",
        "holds a hundred lies that a coordinator signed with its own key": "forgeries/test_coordinator_lies.py::"
        "test_there_are_lies_enough",
    },
    "docs/guides/accounts.md": {
        "so two people make it": _ACCOUNTS + "test_a_deposit_takes_two_people_and_is_made_once",
        "needs a second one": _UNBLOCKED,
    },
    "docs/guides/bank-node.md": {
        "is answered 409 `ceiling_needs_second_person`": _BOOKS + "test_nobody_raises_a_ceiling_alone",
        "An account that opens with money takes two people": _BOOKS + "test_nobody_makes_money_alone",
    },
    "docs/guides/clearing-house.md": {
        "It settles what two operators approved": _ENTITLED,
        "Two operators, because what one proposes another has to confirm": _ALONE,
        "from then on [two operators]": _ALONE,
    },
    "docs/guides/operate-a-cycle.md": {
        "then two operators approve it": _MAKER_CHECKS,
    },
    "docs/guides/screening.md": {
        "until another person has imported the very same files": _WEAKENED,
        "(409 `list_needs_second_person`)": _WEAKENED,
        "## Two people decide": "integration/test_holds.py::"
        "test_an_outgoing_payment_is_sent_after_two_people_released_it",
        "another person: born 1990": TRUST,
    },
    "docs/operating/console.md": {
        "where the rulebook asks for four eyes on the result, two operators still": "console/test_console_actions.py::"
        "test_a_release_says_whether_an_approval_follows",
        "what waits for a second person, and what was decided": TRUST,
        "The coordinator enforces every rule, four eyes among them": _MAKER_CHECKS,
    },
    "docs/operating/database.md": {
        "The keys are as secret as they are needed": "unit/test_points.py::"
        "test_a_key_and_its_directory_are_their_owners_only",
    },
    "docs/operating/incidents.md": {
        "(the ceiling takes two people)": _BOOKS + "test_nobody_raises_a_ceiling_alone",
        "where the rulebook asks for four eyes, two operators still": "unit/test_approval.py::"
        "test_a_release_is_no_approval",
        "**Abandon** it, under four eyes": _MAKER_CHECKS,
    },
    "docs/operating/upgrading.md": {
        "asks for two operators' approval by a rulebook of its own people": _ENTITLED,
        "The new file counts once two operators agreed": _ADOPTED
        + "test_two_operators_agree_on_a_rulebook_by_its_digest",
        "says so where its rulebook waits for two operators": TRUST,
    },
    "docs/operating/keys.md": {
        "Two operators, and nobody who holds the key.": f"{_ALONE} {_KEYS}test_a_stolen_key_from_theft_to_return",
    },
}
