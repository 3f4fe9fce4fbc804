//! `--keep-...`: retention rules on the command line.

use crate::error::Result;
use crate::quantity::time::Window;
use crate::retention::group::GroupBy;
use crate::retention::rule::{self, Count, Level, Limit, Rule, TagList};

/// Options that say what is kept. Each holds for every group of snapshots by itself.
#[derive(Debug, clap::Args)]
#[group(id = "rules", multiple = true)]
#[command(next_help_heading = "Rules (what any of them keeps is kept)")]
pub struct Args {
    /// Keep the newest N
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    keep_last: Option<Limit>,
    /// Keep the newest of each of N hours; N/S: of every S hours. Also `unlimited`
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_hourly: Vec<Count>,
    /// The same with days
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_daily: Vec<Count>,
    /// The same with weeks, from Monday
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_weekly: Vec<Count>,
    /// The same with months; 6/2: six, one of every two months
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_monthly: Vec<Count>,
    /// The same with quarters
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_quarterly: Vec<Count>,
    /// The same with years
    #[arg(long, value_name = "N[/S]", allow_hyphen_values = true)]
    keep_yearly: Vec<Count>,
    /// Keep all up to that much older than the newest: 12h, 7d, 2w, 3m (months), 1y6m
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_within: Option<Window>,
    /// Keep the newest of each hour, up to that much older than the newest
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_hourly_within: Option<Window>,
    /// The same with days
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_daily_within: Option<Window>,
    /// The same with weeks
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_weekly_within: Option<Window>,
    /// The same with months
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_monthly_within: Option<Window>,
    /// The same with quarters
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_quarterly_within: Option<Window>,
    /// The same with years
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keep_yearly_within: Option<Window>,
    /// Keep those with a tag; A,B: with both
    #[arg(long, value_name = "TAG", add = super::complete::tags())]
    keep_tag: Vec<TagList>,
    /// Given twice: allow that no rule keeps anything
    #[arg(long, action = clap::ArgAction::Count)]
    keep_none: u8,
    /// What a group has in common: `none`, or some of host,sources,tags [default: host,sources]
    #[arg(long, value_name = "WHAT")]
    group_by: Option<GroupBy>,
}

impl Args {
    /// Returns whether anything was said about what is kept.
    pub fn is_given(&self) -> bool {
        !self.all().is_empty() || self.keep_none > 0
    }

    /// Returns whether a group may lose all its snapshots.
    pub fn may_empty(&self) -> bool {
        self.keep_none > 1
    }

    /// Returns whether that was said once only.
    pub fn is_allowed_once(&self) -> bool {
        self.keep_none == 1
    }

    /// Returns what a group of snapshots has in common.
    pub fn group_by(&self) -> GroupBy {
        self.group_by.unwrap_or_default()
    }

    /// Returns the rules; contradictory ones are refused.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let rules = self.all();
        rule::check(&rules)?;
        Ok(rules)
    }

    fn all(&self) -> Vec<Rule> {
        let counts = [
            &self.keep_hourly,
            &self.keep_daily,
            &self.keep_weekly,
            &self.keep_monthly,
            &self.keep_quarterly,
            &self.keep_yearly,
        ];
        let windows = [
            self.keep_hourly_within,
            self.keep_daily_within,
            self.keep_weekly_within,
            self.keep_monthly_within,
            self.keep_quarterly_within,
            self.keep_yearly_within,
        ];
        let mut rules: Vec<Rule> = self.keep_last.into_iter().map(Rule::Last).collect();
        for (level, counts) in Level::ALL.into_iter().zip(counts) {
            rules.extend(counts.iter().map(|count| Rule::Level(level, *count)));
        }
        rules.extend(self.keep_within.map(Rule::Within));
        for (level, window) in Level::ALL.into_iter().zip(windows) {
            rules.extend(window.map(|window| Rule::LevelWithin(level, window)));
        }
        rules.extend(self.keep_tag.iter().cloned().map(Rule::Tags));
        rules
    }
}
