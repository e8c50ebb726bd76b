// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What kernel/livepatch/transition.c says.
var (
	looked   = regexp.MustCompile(`klp_try_switch_task: .*:(\d+) (is running|is sleeping on function|has an unreliable stack)`)
	begins   = "'%s': starting patching transition"
	complete = "'%s': completing patching transition"
)

// waited takes from the kernel's log the threads that a transition found inside a
// function: at any of its looks, and at the first. A thread that was running then
// may fall asleep in old code before the next one.
func waited(log, update string) (all, first map[int]bool, err error) {
	_, rest, ok := strings.Cut(log, fmt.Sprintf(begins, update))
	if !ok {
		return nil, nil, errors.New("the kernel's log does not have the beginning of the transition: is dynamic debug on?")
	}
	rest, _, ok = strings.Cut(rest, fmt.Sprintf(complete, update))
	if !ok {
		return nil, nil, errors.New("the kernel's log does not have the end of the transition")
	}
	all, first = map[int]bool{}, map[int]bool{}
	seen, again := map[int]bool{}, false
	for line := range strings.Lines(rest) {
		m := looked.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		tid, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, nil, err
		}
		// A look goes through the threads once.
		again = again || seen[tid]
		seen[tid] = true
		if strings.HasPrefix(m[2], "is sleeping") {
			all[tid] = true
			if !again {
				first[tid] = true
			}
		}
	}
	return all, first, nil
}
