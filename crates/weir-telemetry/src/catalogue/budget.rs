//! Metrics of the budgets that this process grants. Members are no label: they come and go.

use std::fmt;

use super::{Kind, Metric};
use crate::render::Emit;
use crate::{BudgetView, Sources};

fn each(sources: &Sources, emit: &mut Emit<'_>, value: fn(&BudgetView) -> u64) -> fmt::Result {
    sources.budgets.iter().try_for_each(|budget| emit.int(&[&budget.name], value(budget)))
}

fn sum(budget: &BudgetView, value: fn(&crate::BudgetMemberView) -> u32) -> u64 {
    budget.members.iter().map(|member| u64::from(value(member))).sum()
}

pub(super) const ROWS: &[Metric] = &[
    Metric {
        name: "weir_budget_connections",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Connections of a budget in all",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.connections.into()),
    },
    Metric {
        name: "weir_budget_granted",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Shares granted last, of all members of a budget together",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| sum(budget, |member| member.share)),
    },
    Metric {
        name: "weir_budget_held",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Connections that the members of a budget may have open at present; never above the budget",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.held.into()),
    },
    Metric {
        name: "weir_budget_demanded",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Connections that the members of a budget could use at present: busy ones and waiting callers",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| sum(budget, |member| member.demand)),
    },
    Metric {
        name: "weir_budget_unknown",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Connections of a budget set aside for members from before this process started",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.unknown.into()),
    },
    Metric {
        name: "weir_budget_members",
        kind: Kind::Gauge,
        unit: None,
        labels: &["budget"],
        help: "Members of a budget, silent ones included",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.members.len() as u64),
    },
    Metric {
        name: "weir_budget_claims_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["budget"],
        help: "Claims of members read",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.claims),
    },
    Metric {
        name: "weir_budget_claims_refused_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["budget"],
        help: "Claims of members that were late, or came when there were too many members",
        since: "0.1.0",
        read: |s, e| each(s, e, |budget| budget.refused),
    },
];
