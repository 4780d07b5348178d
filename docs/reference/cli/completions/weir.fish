# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_weir_global_optspecs
    string join \n log= log-format= h/help V/version
end

function __fish_weir_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_weir_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_weir_using_subcommand
    set -l cmd (__fish_weir_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c weir -n "__fish_weir_needs_command" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_needs_command" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_needs_command" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_needs_command" -f -a "demo" -d 'Show Weir at work: sample servers, load and a live view, in one process'
complete -c weir -n "__fish_weir_needs_command" -f -a "proxy" -d 'Balance over some servers, without a configuration file'
complete -c weir -n "__fish_weir_needs_command" -f -a "run" -d 'Run a configuration file'
complete -c weir -n "__fish_weir_needs_command" -f -a "check" -d 'Validate a configuration file and print what is wrong with it'
complete -c weir -n "__fish_weir_needs_command" -f -a "budget" -d 'Show who holds what of a budget of connections'
complete -c weir -n "__fish_weir_needs_command" -f -a "explain" -d 'Explain a diagnostic code such as W0301'
complete -c weir -n "__fish_weir_needs_command" -f -a "pool" -d 'About connection pools: how large one has to be'
complete -c weir -n "__fish_weir_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c weir -n "__fish_weir_needs_command" -f -a "man" -d 'Print the manual page, or write the pages of all verbs'
complete -c weir -n "__fish_weir_using_subcommand demo" -l duration -d 'End after this time, such as 10s or 2m; exit code 1 if clients saw an error' -r
complete -c weir -n "__fish_weir_using_subcommand demo" -l rate -d 'Requests per second' -r
complete -c weir -n "__fish_weir_using_subcommand demo" -l port -d 'The port of 127.0.0.1 where Weir listens [default: 8080, or the next free one]' -r
complete -c weir -n "__fish_weir_using_subcommand demo" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand demo" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand demo" -l plain -d 'One line each second, even on a terminal'
complete -c weir -n "__fish_weir_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand demo" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand proxy" -l listen -d 'Where clients connect: IP:PORT, [IPv6]:PORT or unix:PATH' -r
complete -c weir -n "__fish_weir_using_subcommand proxy" -l to -d 'The servers, separated by commas: IP:PORT, NAME:PORT or unix:PATH' -r
complete -c weir -n "__fish_weir_using_subcommand proxy" -l metrics -d 'Where metrics, readiness and clusters are shown: IP:PORT, or `off` [default: 127.0.0.1:9901]' -r
complete -c weir -n "__fish_weir_using_subcommand proxy" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand proxy" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand proxy" -l print -d 'Print the equivalent configuration file and exit'
complete -c weir -n "__fish_weir_using_subcommand proxy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand proxy" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand run" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand run" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand run" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand check" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand check" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand check" -l effective -d 'Print the whole configuration with every default filled in'
complete -c weir -n "__fish_weir_using_subcommand check" -l text-only -d 'Do not look at this machine\'s users, folders and limits'
complete -c weir -n "__fish_weir_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand check" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand budget" -l at -d 'Where the grantor listens: `[grantor] bind`' -r
complete -c weir -n "__fish_weir_using_subcommand budget" -l token-file -d 'A file that holds the token of `[grantor]`' -r -F
complete -c weir -n "__fish_weir_using_subcommand budget" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand budget" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand budget" -l json -d 'Print the grantor\'s answer as it is'
complete -c weir -n "__fish_weir_using_subcommand budget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand budget" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand explain" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand explain" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand explain" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand pool; and not __fish_seen_subcommand_from size" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and not __fish_seen_subcommand_from size" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand pool; and not __fish_seen_subcommand_from size" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand pool; and not __fish_seen_subcommand_from size" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand pool; and not __fish_seen_subcommand_from size" -f -a "size" -d 'Reckon how many connections a pool needs, and what the sizes around it do'
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l rate -d 'How often a connection is acquired: per second, or with /s, /m or /h' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l hold -d 'How long it is held, on average, such as 8ms' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l hold-p99 -d 'The p99 of the hold time, from which its variation follows (as log-normal)' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l hold-scv -d 'Or that variation itself: variance / mean squared; 0 all equal, 1 exponential [default: 1]' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l arrival-scv -d 'The same of the times between arrivals: 0 a metronome, 1 independent users, above 1 bursts' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l wait-p99 -d '99 of 100 callers wait no longer than this [default: a tenth of the hold]' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l burst -d 'So many requests come at once, on top of the rest …' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l within -d '… and the last of them is done after this time' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l tasks -d 'So many tasks at most …' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l connections-per-task -d '… hold so many connections each at the same time: the size that cannot deadlock' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l cores -d 'Cores of the database\'s machine, without hyper-threads: what it works on at once' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l spindles -d 'Its disks with moving arms; 0 with flash, or if the data is in memory' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l instances -d 'Instances of the service, each with a pool and with this rate' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l max-connections -d 'Connections that the database allows in all: do the pools fit?' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l reserved -d 'Those of --max-connections that are kept for others: superusers, replication, tools' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -l json -d 'One JSON object, times in seconds'
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand pool; and __fish_seen_subcommand_from size" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand completions" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand completions" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand completions" -s V -l version -d 'Print version'
complete -c weir -n "__fish_weir_using_subcommand man" -l out -d 'Write weir.1 and a page for each verb into this folder instead' -r -F
complete -c weir -n "__fish_weir_using_subcommand man" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand man" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand man" -s V -l version -d 'Print version'
