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
complete -c weir -n "__fish_weir_needs_command" -f -a "explain" -d 'Explain a diagnostic code such as W0301'
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
complete -c weir -n "__fish_weir_using_subcommand explain" -l log -d 'What is logged to standard error: error, warn, info, debug or TARGET=LEVEL pairs' -r
complete -c weir -n "__fish_weir_using_subcommand explain" -l log-format -d 'How log lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c weir -n "__fish_weir_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weir -n "__fish_weir_using_subcommand explain" -s V -l version -d 'Print version'
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
