#!/bin/bash

__apus_cursor_index_in_current_word() {
    local remaining="${COMP_LINE}"

    local word
    for word in "${COMP_WORDS[@]::COMP_CWORD}"; do
        remaining="${remaining##*([[:space:]])"${word}"*([[:space:]])}"
    done

    local -ir index="$((COMP_POINT - ${#COMP_LINE} + ${#remaining}))"
    if [[ "${index}" -le 0 ]]; then
        printf 0
    else
        printf %s "${index}"
    fi
}

# positional arguments:
#
# - 1: the current (sub)command's count of positional arguments
#
# required variables:
#
# - repeating_flags: the repeating flags that the current (sub)command can accept
# - non_repeating_flags: the non-repeating flags that the current (sub)command can accept
# - repeating_options: the repeating options that the current (sub)command can accept
# - non_repeating_options: the non-repeating options that the current (sub)command can accept
# - positional_number: value ignored
# - unparsed_words: unparsed words from the current command line
#
# modified variables:
#
# - non_repeating_flags: remove flags for this (sub)command that are already on the command line
# - non_repeating_options: remove options for this (sub)command that are already on the command line
# - positional_number: set to the current positional number
# - unparsed_words: remove all flags, options, and option values for this (sub)command
__apus_offer_flags_options() {
    local -ir positional_count="${1}"
    positional_number=0

    local was_flag_option_terminator_seen=false
    local is_parsing_option_value=false

    local -ar unparsed_word_indices=("${!unparsed_words[@]}")
    local -i word_index
    for word_index in "${unparsed_word_indices[@]}"; do
        if "${is_parsing_option_value}"; then
            # This word is an option value:
            # Reset marker for next word iff not currently the last word
            [[ "${word_index}" -ne "${unparsed_word_indices[${#unparsed_word_indices[@]} - 1]}" ]] && is_parsing_option_value=false
            unset "unparsed_words[${word_index}]"
            # Do not process this word as a flag or an option
            continue
        fi

        local word="${unparsed_words["${word_index}"]}"
        if ! "${was_flag_option_terminator_seen}"; then
            case "${word}" in
            --)
                unset "unparsed_words[${word_index}]"
                # by itself -- is a flag/option terminator, but if it is the last word, it is the start of a completion
                if [[ "${word_index}" -ne "${unparsed_word_indices[${#unparsed_word_indices[@]} - 1]}" ]]; then
                    was_flag_option_terminator_seen=true
                fi
                continue
                ;;
            -*)
                # ${word} is a flag or an option
                # If ${word} is an option, mark that the next word to be parsed is an option value
                local option
                for option in "${repeating_options[@]}" "${non_repeating_options[@]}"; do
                    [[ "${word}" = "${option}" ]] && is_parsing_option_value=true && break
                done

                # Remove ${word} from ${non_repeating_flags} or ${non_repeating_options} so it isn't offered again
                local not_found=true
                local -i index
                for index in "${!non_repeating_flags[@]}"; do
                    if [[ "${non_repeating_flags[${index}]}" = "${word}" ]]; then
                        unset "non_repeating_flags[${index}]"
                        non_repeating_flags=("${non_repeating_flags[@]}")
                        not_found=false
                        break
                    fi
                done
                if "${not_found}"; then
                    for index in "${!non_repeating_flags[@]}"; do
                        if [[ "${non_repeating_flags[${index}]}" = "${word}" ]]; then
                            unset "non_repeating_flags[${index}]"
                            non_repeating_flags=("${non_repeating_flags[@]}")
                            break
                        fi
                    done
                fi
                unset "unparsed_words[${word_index}]"
                continue
                ;;
            esac
        fi

        # ${word} is neither a flag, nor an option, nor an option value
        if [[ "${positional_number}" -lt "${positional_count}" || "${positional_count}" -lt 0 ]]; then
            # ${word} is a positional
            ((positional_number++))
            unset "unparsed_words[${word_index}]"
        else
            if [[ -z "${word}" ]]; then
                # Could be completing a flag, option, or subcommand
                positional_number=-1
            else
                # ${word} is a subcommand or invalid, so stop processing this (sub)command
                positional_number=-2
            fi
            break
        fi
    done

    unparsed_words=("${unparsed_words[@]}")

    if\
        ! "${was_flag_option_terminator_seen}"\
        && ! "${is_parsing_option_value}"\
        && [[ ("${cur}" = -* && "${positional_number}" -ge 0) || "${positional_number}" -eq -1 ]]
    then
        COMPREPLY+=($(compgen -W "${repeating_flags[*]} ${non_repeating_flags[*]} ${repeating_options[*]} ${non_repeating_options[*]}" -- "${cur}"))
    fi
}

__apus_add_completions() {
    local completion
    while IFS='' read -r completion; do
        COMPREPLY+=("${completion}")
    done < <(IFS=$'\n' compgen "${@}" -- "${cur}")
}

__apus_custom_complete() {
    if [[ -n "${cur}" || -z ${COMP_WORDS[${COMP_CWORD}]} || "${COMP_LINE:${COMP_POINT}:1}" != ' ' ]]; then
        local -ar words=("${COMP_WORDS[@]}")
    else
        local -ar words=("${COMP_WORDS[@]::${COMP_CWORD}}" '' "${COMP_WORDS[@]:${COMP_CWORD}}")
    fi

    "${COMP_WORDS[0]}" "${@}" "${words[@]}"
}

_apus() {
    local state
    state="$(shopt -p;shopt -po)"
    trap "${state//$'\n'/;}" RETURN
    shopt -s extglob
    set +o history +o posix

    local -xr SAP_SHELL=bash
    local -x SAP_SHELL_VERSION
    SAP_SHELL_VERSION="$(IFS='.';printf %s "${BASH_VERSINFO[*]}")"
    local -r SAP_SHELL_VERSION

    local -r cur="${2}"
    local -r prev="${3}"

    local -i positional_number
    local -a unparsed_words=("${COMP_WORDS[@]:1:${COMP_CWORD}}")

    local -a repeating_flags=()
    local -a non_repeating_flags=(--version -h --help)
    local -a repeating_options=()
    local -a non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    swarm|service|node|secret|config|plugin|run|ps|container|create|start|stop|restart|kill|wait|rename|logs|rm|pull|images|image|tag|rmi|load|import|login|logout|volume|network|events|inspect|info|version|system|help)
        # Offer subcommand argument completions
        "_apus_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'swarm service node secret config plugin run ps container create start stop restart kill wait rename logs rm pull images image tag rmi load import login logout volume network events inspect info version system help' -- "${cur}"))
        ;;
    esac
}

_apus_swarm() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    init|join|join-token|update|inspect|unlock|unlock-key|ca|leave)
        # Offer subcommand argument completions
        "_apus_swarm_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'init join join-token update inspect unlock unlock-key ca leave' -- "${cur}"))
        ;;
    esac
}

_apus_swarm_init() {
    repeating_flags=()
    non_repeating_flags=(--force-new-cluster --accept-nodes --no-accept-nodes --autolock --no-autolock --version -h --help)
    repeating_options=(--default-addr-pool --external-ca)
    non_repeating_options=(--advertise-addr --listen-addr --data-path-addr --data-path-port --default-addr-pool-mask-length --availability --cert-expiry --expired-renewal-grace --task-history-limit --dispatcher-heartbeat --snapshot-interval --max-snapshots)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '--advertise-addr')
        return
        ;;
    '--listen-addr')
        return
        ;;
    '--data-path-addr')
        return
        ;;
    '--data-path-port')
        return
        ;;
    '--default-addr-pool')
        return
        ;;
    '--default-addr-pool-mask-length')
        return
        ;;
    '--availability')
        return
        ;;
    '--cert-expiry')
        return
        ;;
    '--external-ca')
        return
        ;;
    '--expired-renewal-grace')
        return
        ;;
    '--task-history-limit')
        return
        ;;
    '--dispatcher-heartbeat')
        return
        ;;
    '--snapshot-interval')
        return
        ;;
    '--max-snapshots')
        return
        ;;
    esac
}

_apus_swarm_join() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(--token --advertise-addr --listen-addr --data-path-addr --availability)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--token')
        return
        ;;
    '--advertise-addr')
        return
        ;;
    '--listen-addr')
        return
        ;;
    '--data-path-addr')
        return
        ;;
    '--availability')
        return
        ;;
    esac
}

_apus_swarm_join-token() {
    repeating_flags=()
    non_repeating_flags=(--rotate -q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 1
}

_apus_swarm_update() {
    repeating_flags=()
    non_repeating_flags=(--accept-nodes --no-accept-nodes --autolock --no-autolock --version -h --help)
    repeating_options=(--external-ca)
    non_repeating_options=(--cert-expiry --expired-renewal-grace --task-history-limit --dispatcher-heartbeat --snapshot-interval --max-snapshots)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '--cert-expiry')
        return
        ;;
    '--external-ca')
        return
        ;;
    '--expired-renewal-grace')
        return
        ;;
    '--task-history-limit')
        return
        ;;
    '--dispatcher-heartbeat')
        return
        ;;
    '--snapshot-interval')
        return
        ;;
    '--max-snapshots')
        return
        ;;
    esac
}

_apus_swarm_inspect() {
    repeating_flags=()
    non_repeating_flags=(--stale --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_swarm_unlock() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0
}

_apus_swarm_unlock-key() {
    repeating_flags=()
    non_repeating_flags=(--rotate -q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0
}

_apus_swarm_ca() {
    repeating_flags=()
    non_repeating_flags=(--rotate -d --detach -q --quiet --version -h --help)
    repeating_options=(--external-ca)
    non_repeating_options=(--ca-cert --ca-key --cert-expiry)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '--ca-cert')
        return
        ;;
    '--ca-key')
        return
        ;;
    '--external-ca')
        return
        ;;
    '--cert-expiry')
        return
        ;;
    esac
}

_apus_swarm_leave() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0
}

_apus_service() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    create|ls|ps|inspect|update|scale|rollback|logs|rm)
        # Offer subcommand argument completions
        "_apus_service_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'create ls ps inspect update scale rollback logs rm' -- "${cur}"))
        ;;
    esac
}

_apus_service_create() {
    repeating_flags=()
    non_repeating_flags=(-t --tty --no-tty --init --no-init --read-only --no-read-only --no-healthcheck --with-registry-auth --no-resolve-image -d --detach -q --quiet --version -h --help)
    repeating_options=(-p --publish -e --env --env-file -l --label --container-label --mount --secret --config --constraint --placement-pref --network --host --dns --dns-search --dns-option --group --cap-add --cap-drop --sysctl --ulimit --generic-resource --log-opt)
    non_repeating_options=(--name --mode --entrypoint --hostname -u --user -w --workdir --stop-signal --stop-grace-period --oom-score-adj --limit-cpu --limit-memory --limit-pids --reserve-cpu --reserve-memory --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --restart-condition --restart-delay --restart-max-attempts --restart-window --update-parallelism --update-delay --update-failure-action --update-monitor --update-max-failure-ratio --update-order --rollback-parallelism --rollback-delay --rollback-failure-action --rollback-monitor --rollback-max-failure-ratio --rollback-order --replicas --max-concurrent --replicas-max-per-node --endpoint-mode --runtime --log-driver)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--name')
        return
        ;;
    '--mode')
        return
        ;;
    '-p'|'--publish')
        return
        ;;
    '-e'|'--env')
        return
        ;;
    '--env-file')
        return
        ;;
    '-l'|'--label')
        return
        ;;
    '--container-label')
        return
        ;;
    '--mount')
        return
        ;;
    '--secret')
        return
        ;;
    '--config')
        return
        ;;
    '--constraint')
        return
        ;;
    '--placement-pref')
        return
        ;;
    '--network')
        return
        ;;
    '--host')
        return
        ;;
    '--dns')
        return
        ;;
    '--dns-search')
        return
        ;;
    '--dns-option')
        return
        ;;
    '--group')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--sysctl')
        return
        ;;
    '--ulimit')
        return
        ;;
    '--generic-resource')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-grace-period')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--limit-cpu')
        return
        ;;
    '--limit-memory')
        return
        ;;
    '--limit-pids')
        return
        ;;
    '--reserve-cpu')
        return
        ;;
    '--reserve-memory')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--restart-condition')
        return
        ;;
    '--restart-delay')
        return
        ;;
    '--restart-max-attempts')
        return
        ;;
    '--restart-window')
        return
        ;;
    '--update-parallelism')
        return
        ;;
    '--update-delay')
        return
        ;;
    '--update-failure-action')
        return
        ;;
    '--update-monitor')
        return
        ;;
    '--update-max-failure-ratio')
        return
        ;;
    '--update-order')
        return
        ;;
    '--rollback-parallelism')
        return
        ;;
    '--rollback-delay')
        return
        ;;
    '--rollback-failure-action')
        return
        ;;
    '--rollback-monitor')
        return
        ;;
    '--rollback-max-failure-ratio')
        return
        ;;
    '--rollback-order')
        return
        ;;
    '--replicas')
        return
        ;;
    '--max-concurrent')
        return
        ;;
    '--replicas-max-per-node')
        return
        ;;
    '--endpoint-mode')
        return
        ;;
    '--runtime')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    esac
}

_apus_service_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_service_ps() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --no-trunc --no-resolve --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_service_inspect() {
    repeating_flags=()
    non_repeating_flags=(--stale --pretty --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_service_update() {
    repeating_flags=()
    non_repeating_flags=(--force -t --tty --no-tty --init --no-init --read-only --no-read-only --no-healthcheck --with-registry-auth --no-resolve-image -d --detach -q --quiet --rollback --version -h --help)
    repeating_options=(--publish-add --publish-rm --env-add --env-rm --label-add --label-rm --container-label-add --container-label-rm --mount-add --mount-rm --secret-add --secret-rm --config-add --config-rm --constraint-add --constraint-rm --placement-pref-add --placement-pref-rm --network-add --network-rm --host-add --host-rm --dns-add --dns-rm --dns-search-add --dns-search-rm --dns-option-add --dns-option-rm --group-add --group-rm --cap-add --cap-drop --sysctl-add --sysctl-rm --ulimit-add --ulimit-rm --generic-resource-add --generic-resource-rm --log-opt)
    non_repeating_options=(--image --args --entrypoint --hostname -u --user -w --workdir --stop-signal --stop-grace-period --oom-score-adj --limit-cpu --limit-memory --limit-pids --reserve-cpu --reserve-memory --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --restart-condition --restart-delay --restart-max-attempts --restart-window --update-parallelism --update-delay --update-failure-action --update-monitor --update-max-failure-ratio --update-order --rollback-parallelism --rollback-delay --rollback-failure-action --rollback-monitor --rollback-max-failure-ratio --rollback-order --replicas --max-concurrent --replicas-max-per-node --endpoint-mode --runtime --log-driver)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '--image')
        return
        ;;
    '--args')
        return
        ;;
    '--publish-add')
        return
        ;;
    '--publish-rm')
        return
        ;;
    '--env-add')
        return
        ;;
    '--env-rm')
        return
        ;;
    '--label-add')
        return
        ;;
    '--label-rm')
        return
        ;;
    '--container-label-add')
        return
        ;;
    '--container-label-rm')
        return
        ;;
    '--mount-add')
        return
        ;;
    '--mount-rm')
        return
        ;;
    '--secret-add')
        return
        ;;
    '--secret-rm')
        return
        ;;
    '--config-add')
        return
        ;;
    '--config-rm')
        return
        ;;
    '--constraint-add')
        return
        ;;
    '--constraint-rm')
        return
        ;;
    '--placement-pref-add')
        return
        ;;
    '--placement-pref-rm')
        return
        ;;
    '--network-add')
        return
        ;;
    '--network-rm')
        return
        ;;
    '--host-add')
        return
        ;;
    '--host-rm')
        return
        ;;
    '--dns-add')
        return
        ;;
    '--dns-rm')
        return
        ;;
    '--dns-search-add')
        return
        ;;
    '--dns-search-rm')
        return
        ;;
    '--dns-option-add')
        return
        ;;
    '--dns-option-rm')
        return
        ;;
    '--group-add')
        return
        ;;
    '--group-rm')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--sysctl-add')
        return
        ;;
    '--sysctl-rm')
        return
        ;;
    '--ulimit-add')
        return
        ;;
    '--ulimit-rm')
        return
        ;;
    '--generic-resource-add')
        return
        ;;
    '--generic-resource-rm')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-grace-period')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--limit-cpu')
        return
        ;;
    '--limit-memory')
        return
        ;;
    '--limit-pids')
        return
        ;;
    '--reserve-cpu')
        return
        ;;
    '--reserve-memory')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--restart-condition')
        return
        ;;
    '--restart-delay')
        return
        ;;
    '--restart-max-attempts')
        return
        ;;
    '--restart-window')
        return
        ;;
    '--update-parallelism')
        return
        ;;
    '--update-delay')
        return
        ;;
    '--update-failure-action')
        return
        ;;
    '--update-monitor')
        return
        ;;
    '--update-max-failure-ratio')
        return
        ;;
    '--update-order')
        return
        ;;
    '--rollback-parallelism')
        return
        ;;
    '--rollback-delay')
        return
        ;;
    '--rollback-failure-action')
        return
        ;;
    '--rollback-monitor')
        return
        ;;
    '--rollback-max-failure-ratio')
        return
        ;;
    '--rollback-order')
        return
        ;;
    '--replicas')
        return
        ;;
    '--max-concurrent')
        return
        ;;
    '--replicas-max-per-node')
        return
        ;;
    '--endpoint-mode')
        return
        ;;
    '--runtime')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    esac
}

_apus_service_scale() {
    repeating_flags=()
    non_repeating_flags=(-d --detach -q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_service_rollback() {
    repeating_flags=()
    non_repeating_flags=(-d --detach -q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 1
}

_apus_service_logs() {
    repeating_flags=()
    non_repeating_flags=(-f --follow -t --timestamps --details --no-trunc --no-resolve --no-task-ids --raw --version -h --help)
    repeating_options=()
    non_repeating_options=(-n --tail --since)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-n'|'--tail')
        return
        ;;
    '--since')
        return
        ;;
    esac
}

_apus_service_rm() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_node() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    ls|inspect|ps|update|promote|demote|accept|rm)
        # Offer subcommand argument completions
        "_apus_node_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'ls inspect ps update promote demote accept rm' -- "${cur}"))
        ;;
    esac
}

_apus_node_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_node_inspect() {
    repeating_flags=()
    non_repeating_flags=(--stale --pretty --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_node_ps() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --no-trunc --no-resolve --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_node_update() {
    repeating_flags=()
    non_repeating_flags=(--wait --version -h --help)
    repeating_options=(--label-add --label-rm)
    non_repeating_options=(--availability --role)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '--availability')
        return
        ;;
    '--role')
        return
        ;;
    '--label-add')
        return
        ;;
    '--label-rm')
        return
        ;;
    esac
}

_apus_node_promote() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_node_demote() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_node_accept() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_node_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_secret() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    create|ls|inspect|rm)
        # Offer subcommand argument completions
        "_apus_secret_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'create ls inspect rm' -- "${cur}"))
        ;;
    esac
}

_apus_secret_create() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-l --label)
    non_repeating_options=()
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '-l'|'--label')
        return
        ;;
    esac
}

_apus_secret_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_secret_inspect() {
    repeating_flags=()
    non_repeating_flags=(--stale --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_secret_rm() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_config() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    create|ls|inspect|rm)
        # Offer subcommand argument completions
        "_apus_config_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'create ls inspect rm' -- "${cur}"))
        ;;
    esac
}

_apus_config_create() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-l --label)
    non_repeating_options=()
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '-l'|'--label')
        return
        ;;
    esac
}

_apus_config_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --stale --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_config_inspect() {
    repeating_flags=()
    non_repeating_flags=(--stale --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_config_rm() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_plugin() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    ls|inspect|enable|disable|install|rm|new)
        # Offer subcommand argument completions
        "_apus_plugin_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'ls inspect enable disable install rm new' -- "${cur}"))
        ;;
    esac
}

_apus_plugin_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --no-trunc --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_plugin_inspect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_plugin_enable() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_plugin_disable() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_plugin_install() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 1
}

_apus_plugin_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_plugin_new() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(--path --plugin-api)
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '--path')
        return
        ;;
    '--plugin-api')
        return
        ;;
    esac
}

_apus_run() {
    repeating_flags=()
    non_repeating_flags=(-P --publish-all -t --tty --no-tty --init --no-init --read-only --no-read-only --privileged --no-healthcheck -d --detach -i --interactive --rm -q --quiet --version --help)
    repeating_options=(-p --publish --expose -e --env --env-file -l --label -v --volume --mount --tmpfs --network-alias --add-host --dns --dns-search --dns-option --group-add --ulimit --sysctl --cap-add --cap-drop --security-opt --device --log-opt)
    non_repeating_options=(--name --network --entrypoint -h --hostname -u --user -w --workdir --restart -m --memory --memory-reservation --memory-swap --cpus -c --cpu-shares --pids-limit --shm-size --oom-score-adj --stop-signal --stop-timeout --log-driver --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --runtime --platform --pull --cidfile)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--name')
        return
        ;;
    '-p'|'--publish')
        return
        ;;
    '--expose')
        return
        ;;
    '-e'|'--env')
        return
        ;;
    '--env-file')
        return
        ;;
    '-l'|'--label')
        return
        ;;
    '-v'|'--volume')
        return
        ;;
    '--mount')
        return
        ;;
    '--tmpfs')
        return
        ;;
    '--network')
        return
        ;;
    '--network-alias')
        return
        ;;
    '--add-host')
        return
        ;;
    '--dns')
        return
        ;;
    '--dns-search')
        return
        ;;
    '--dns-option')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '-h'|'--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--group-add')
        return
        ;;
    '--restart')
        return
        ;;
    '-m'|'--memory')
        return
        ;;
    '--memory-reservation')
        return
        ;;
    '--memory-swap')
        return
        ;;
    '--cpus')
        return
        ;;
    '-c'|'--cpu-shares')
        return
        ;;
    '--pids-limit')
        return
        ;;
    '--shm-size')
        return
        ;;
    '--ulimit')
        return
        ;;
    '--sysctl')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--security-opt')
        return
        ;;
    '--device')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-timeout')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--runtime')
        return
        ;;
    '--platform')
        return
        ;;
    '--pull')
        return
        ;;
    '--cidfile')
        return
        ;;
    esac
}

_apus_ps() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all --no-trunc -l --latest -s --size --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format -n --last)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    '-n'|'--last')
        return
        ;;
    esac
}

_apus_container() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    ls|run|create|start|stop|restart|kill|wait|rename|logs|inspect|rm)
        # Offer subcommand argument completions
        "_apus_container_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'ls run create start stop restart kill wait rename logs inspect rm' -- "${cur}"))
        ;;
    esac
}

_apus_container_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all --no-trunc -l --latest -s --size --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format -n --last)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    '-n'|'--last')
        return
        ;;
    esac
}

_apus_container_run() {
    repeating_flags=()
    non_repeating_flags=(-P --publish-all -t --tty --no-tty --init --no-init --read-only --no-read-only --privileged --no-healthcheck -d --detach -i --interactive --rm -q --quiet --version --help)
    repeating_options=(-p --publish --expose -e --env --env-file -l --label -v --volume --mount --tmpfs --network-alias --add-host --dns --dns-search --dns-option --group-add --ulimit --sysctl --cap-add --cap-drop --security-opt --device --log-opt)
    non_repeating_options=(--name --network --entrypoint -h --hostname -u --user -w --workdir --restart -m --memory --memory-reservation --memory-swap --cpus -c --cpu-shares --pids-limit --shm-size --oom-score-adj --stop-signal --stop-timeout --log-driver --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --runtime --platform --pull --cidfile)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--name')
        return
        ;;
    '-p'|'--publish')
        return
        ;;
    '--expose')
        return
        ;;
    '-e'|'--env')
        return
        ;;
    '--env-file')
        return
        ;;
    '-l'|'--label')
        return
        ;;
    '-v'|'--volume')
        return
        ;;
    '--mount')
        return
        ;;
    '--tmpfs')
        return
        ;;
    '--network')
        return
        ;;
    '--network-alias')
        return
        ;;
    '--add-host')
        return
        ;;
    '--dns')
        return
        ;;
    '--dns-search')
        return
        ;;
    '--dns-option')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '-h'|'--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--group-add')
        return
        ;;
    '--restart')
        return
        ;;
    '-m'|'--memory')
        return
        ;;
    '--memory-reservation')
        return
        ;;
    '--memory-swap')
        return
        ;;
    '--cpus')
        return
        ;;
    '-c'|'--cpu-shares')
        return
        ;;
    '--pids-limit')
        return
        ;;
    '--shm-size')
        return
        ;;
    '--ulimit')
        return
        ;;
    '--sysctl')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--security-opt')
        return
        ;;
    '--device')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-timeout')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--runtime')
        return
        ;;
    '--platform')
        return
        ;;
    '--pull')
        return
        ;;
    '--cidfile')
        return
        ;;
    esac
}

_apus_container_create() {
    repeating_flags=()
    non_repeating_flags=(-P --publish-all -t --tty --no-tty --init --no-init --read-only --no-read-only --privileged --no-healthcheck -i --interactive --rm -q --quiet --version --help)
    repeating_options=(-p --publish --expose -e --env --env-file -l --label -v --volume --mount --tmpfs --network-alias --add-host --dns --dns-search --dns-option --group-add --ulimit --sysctl --cap-add --cap-drop --security-opt --device --log-opt)
    non_repeating_options=(--name --network --entrypoint -h --hostname -u --user -w --workdir --restart -m --memory --memory-reservation --memory-swap --cpus -c --cpu-shares --pids-limit --shm-size --oom-score-adj --stop-signal --stop-timeout --log-driver --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --runtime --platform --pull)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--name')
        return
        ;;
    '-p'|'--publish')
        return
        ;;
    '--expose')
        return
        ;;
    '-e'|'--env')
        return
        ;;
    '--env-file')
        return
        ;;
    '-l'|'--label')
        return
        ;;
    '-v'|'--volume')
        return
        ;;
    '--mount')
        return
        ;;
    '--tmpfs')
        return
        ;;
    '--network')
        return
        ;;
    '--network-alias')
        return
        ;;
    '--add-host')
        return
        ;;
    '--dns')
        return
        ;;
    '--dns-search')
        return
        ;;
    '--dns-option')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '-h'|'--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--group-add')
        return
        ;;
    '--restart')
        return
        ;;
    '-m'|'--memory')
        return
        ;;
    '--memory-reservation')
        return
        ;;
    '--memory-swap')
        return
        ;;
    '--cpus')
        return
        ;;
    '-c'|'--cpu-shares')
        return
        ;;
    '--pids-limit')
        return
        ;;
    '--shm-size')
        return
        ;;
    '--ulimit')
        return
        ;;
    '--sysctl')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--security-opt')
        return
        ;;
    '--device')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-timeout')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--runtime')
        return
        ;;
    '--platform')
        return
        ;;
    '--pull')
        return
        ;;
    esac
}

_apus_container_start() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_container_stop() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal -t --timeout --time)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    '-t'|'--timeout'|'--time')
        return
        ;;
    esac
}

_apus_container_restart() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal -t --timeout --time)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    '-t'|'--timeout'|'--time')
        return
        ;;
    esac
}

_apus_container_kill() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    esac
}

_apus_container_wait() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_container_rename() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 2
}

_apus_container_logs() {
    repeating_flags=()
    non_repeating_flags=(-f --follow -t --timestamps --details --version -h --help)
    repeating_options=()
    non_repeating_options=(-n --tail --since --until)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-n'|'--tail')
        return
        ;;
    '--since')
        return
        ;;
    '--until')
        return
        ;;
    esac
}

_apus_container_inspect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_container_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force -v --volumes --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_create() {
    repeating_flags=()
    non_repeating_flags=(-P --publish-all -t --tty --no-tty --init --no-init --read-only --no-read-only --privileged --no-healthcheck -i --interactive --rm -q --quiet --version --help)
    repeating_options=(-p --publish --expose -e --env --env-file -l --label -v --volume --mount --tmpfs --network-alias --add-host --dns --dns-search --dns-option --group-add --ulimit --sysctl --cap-add --cap-drop --security-opt --device --log-opt)
    non_repeating_options=(--name --network --entrypoint -h --hostname -u --user -w --workdir --restart -m --memory --memory-reservation --memory-swap --cpus -c --cpu-shares --pids-limit --shm-size --oom-score-adj --stop-signal --stop-timeout --log-driver --health-cmd --health-interval --health-timeout --health-retries --health-start-period --health-start-interval --runtime --platform --pull)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '--name')
        return
        ;;
    '-p'|'--publish')
        return
        ;;
    '--expose')
        return
        ;;
    '-e'|'--env')
        return
        ;;
    '--env-file')
        return
        ;;
    '-l'|'--label')
        return
        ;;
    '-v'|'--volume')
        return
        ;;
    '--mount')
        return
        ;;
    '--tmpfs')
        return
        ;;
    '--network')
        return
        ;;
    '--network-alias')
        return
        ;;
    '--add-host')
        return
        ;;
    '--dns')
        return
        ;;
    '--dns-search')
        return
        ;;
    '--dns-option')
        return
        ;;
    '--entrypoint')
        return
        ;;
    '-h'|'--hostname')
        return
        ;;
    '-u'|'--user')
        return
        ;;
    '-w'|'--workdir')
        return
        ;;
    '--group-add')
        return
        ;;
    '--restart')
        return
        ;;
    '-m'|'--memory')
        return
        ;;
    '--memory-reservation')
        return
        ;;
    '--memory-swap')
        return
        ;;
    '--cpus')
        return
        ;;
    '-c'|'--cpu-shares')
        return
        ;;
    '--pids-limit')
        return
        ;;
    '--shm-size')
        return
        ;;
    '--ulimit')
        return
        ;;
    '--sysctl')
        return
        ;;
    '--cap-add')
        return
        ;;
    '--cap-drop')
        return
        ;;
    '--security-opt')
        return
        ;;
    '--device')
        return
        ;;
    '--oom-score-adj')
        return
        ;;
    '--stop-signal')
        return
        ;;
    '--stop-timeout')
        return
        ;;
    '--log-driver')
        return
        ;;
    '--log-opt')
        return
        ;;
    '--health-cmd')
        return
        ;;
    '--health-interval')
        return
        ;;
    '--health-timeout')
        return
        ;;
    '--health-retries')
        return
        ;;
    '--health-start-period')
        return
        ;;
    '--health-start-interval')
        return
        ;;
    '--runtime')
        return
        ;;
    '--platform')
        return
        ;;
    '--pull')
        return
        ;;
    esac
}

_apus_start() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_stop() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal -t --timeout --time)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    '-t'|'--timeout'|'--time')
        return
        ;;
    esac
}

_apus_restart() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal -t --timeout --time)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    '-t'|'--timeout'|'--time')
        return
        ;;
    esac
}

_apus_kill() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-s --signal)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-s'|'--signal')
        return
        ;;
    esac
}

_apus_wait() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_rename() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 2
}

_apus_logs() {
    repeating_flags=()
    non_repeating_flags=(-f --follow -t --timestamps --details --version -h --help)
    repeating_options=()
    non_repeating_options=(-n --tail --since --until)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-n'|'--tail')
        return
        ;;
    '--since')
        return
        ;;
    '--until')
        return
        ;;
    esac
}

_apus_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force -v --volumes --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_pull() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all-tags --version -h --help)
    repeating_options=()
    non_repeating_options=(--platform)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '--platform')
        return
        ;;
    esac
}

_apus_images() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all --digests --no-trunc --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_image() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    ls|inspect|pull|tag|rm|load|import)
        # Offer subcommand argument completions
        "_apus_image_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'ls inspect pull tag rm load import' -- "${cur}"))
        ;;
    esac
}

_apus_image_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all --digests --no-trunc --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_image_inspect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_image_pull() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet -a --all-tags --version -h --help)
    repeating_options=()
    non_repeating_options=(--platform)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '--platform')
        return
        ;;
    esac
}

_apus_image_tag() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 2
}

_apus_image_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force --no-prune --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_image_load() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=(-i --input)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-i'|'--input')
        return
        ;;
    esac
}

_apus_image_import() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-c --change)
    non_repeating_options=(-m --message --platform)
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '-c'|'--change')
        return
        ;;
    '-m'|'--message')
        return
        ;;
    '--platform')
        return
        ;;
    esac
}

_apus_tag() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 2
}

_apus_rmi() {
    repeating_flags=()
    non_repeating_flags=(-f --force --no-prune --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_load() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --version -h --help)
    repeating_options=()
    non_repeating_options=(-i --input)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-i'|'--input')
        return
        ;;
    esac
}

_apus_import() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-c --change)
    non_repeating_options=(-m --message --platform)
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '-c'|'--change')
        return
        ;;
    '-m'|'--message')
        return
        ;;
    '--platform')
        return
        ;;
    esac
}

_apus_login() {
    repeating_flags=()
    non_repeating_flags=(--password-stdin --version -h --help)
    repeating_options=()
    non_repeating_options=(-u --username -p --password)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-u'|'--username')
        return
        ;;
    '-p'|'--password')
        return
        ;;
    esac
}

_apus_logout() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 1
}

_apus_volume() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    ls|create|inspect|rm)
        # Offer subcommand argument completions
        "_apus_volume_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'ls create inspect rm' -- "${cur}"))
        ;;
    esac
}

_apus_volume_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_volume_create() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-o --opt --label)
    non_repeating_options=(-d --driver)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-d'|'--driver')
        return
        ;;
    '-o'|'--opt')
        return
        ;;
    '--label')
        return
        ;;
    esac
}

_apus_volume_inspect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_volume_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_network() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    create|ls|inspect|rm|prune|connect|disconnect)
        # Offer subcommand argument completions
        "_apus_network_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'create ls inspect rm prune connect disconnect' -- "${cur}"))
        ;;
    esac
}

_apus_network_create() {
    repeating_flags=()
    non_repeating_flags=(--attachable --internal --ingress --ipv6 --version -h --help)
    repeating_options=(--subnet --gateway --ip-range --aux-address -o --opt --label)
    non_repeating_options=(-d --driver --scope)
    __apus_offer_flags_options 1

    # Offer option value completions
    case "${prev}" in
    '-d'|'--driver')
        return
        ;;
    '--subnet')
        return
        ;;
    '--gateway')
        return
        ;;
    '--ip-range')
        return
        ;;
    '--aux-address')
        return
        ;;
    '-o'|'--opt')
        return
        ;;
    '--label')
        return
        ;;
    '--scope')
        return
        ;;
    esac
}

_apus_network_ls() {
    repeating_flags=()
    non_repeating_flags=(-q --quiet --no-trunc --version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_network_inspect() {
    repeating_flags=()
    non_repeating_flags=(-v --verbose --version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_network_rm() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

_apus_network_prune() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=(--filter)
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '--filter')
        return
        ;;
    esac
}

_apus_network_connect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(--alias --driver-opt)
    non_repeating_options=(--ip --ip6)
    __apus_offer_flags_options 2

    # Offer option value completions
    case "${prev}" in
    '--alias')
        return
        ;;
    '--ip')
        return
        ;;
    '--ip6')
        return
        ;;
    '--driver-opt')
        return
        ;;
    esac
}

_apus_network_disconnect() {
    repeating_flags=()
    non_repeating_flags=(-f --force --version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 2
}

_apus_events() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--since --until --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--since')
        return
        ;;
    '--until')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_inspect() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format --type)
    __apus_offer_flags_options -1

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    '--type')
        return
        ;;
    esac
}

_apus_info() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_version() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_system() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options 0

    # Offer subcommand / subcommand argument completions
    local -r subcommand="${unparsed_words[0]}"
    unset 'unparsed_words[0]'
    unparsed_words=("${unparsed_words[@]}")
    case "${subcommand}" in
    df|info|events)
        # Offer subcommand argument completions
        "_apus_system_${subcommand}"
        ;;
    *)
        # Offer subcommand completions
        COMPREPLY+=($(compgen -W 'df info events' -- "${cur}"))
        ;;
    esac
}

_apus_system_df() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(--format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '--format')
        return
        ;;
    esac
}

_apus_system_info() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=()
    non_repeating_options=(-f --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--format')
        return
        ;;
    esac
}

_apus_system_events() {
    repeating_flags=()
    non_repeating_flags=(--version -h --help)
    repeating_options=(-f --filter)
    non_repeating_options=(--since --until --format)
    __apus_offer_flags_options 0

    # Offer option value completions
    case "${prev}" in
    '-f'|'--filter')
        return
        ;;
    '--since')
        return
        ;;
    '--until')
        return
        ;;
    '--format')
        return
        ;;
    esac
}

_apus_help() {
    repeating_flags=()
    non_repeating_flags=(--version)
    repeating_options=()
    non_repeating_options=()
    __apus_offer_flags_options -1
}

complete -o filenames -F _apus apus
