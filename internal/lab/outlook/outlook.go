// SPDX-License-Identifier: Apache-2.0

// Package outlook records what everybody else sees of a network interface of a
// lab host: addresses, routes, settings, queueing, attributes, memberships. Two
// records of an interface whose driver was replaced have to be equal, but for
// counters, which never go back. The host needs the programs of
// lab.NetworkTools.
package outlook

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
)

// Outlook is one record.
type Outlook struct {
	// State is what a section says without counters and ages, by its name
	// ("eth0: ethtool -k").
	State map[string]string `json:"state"`
	// Counters are numbers that only grow ("eth0: sysfs statistics/rx_bytes").
	Counters map[string]uint64 `json:"counters"`
}

// takeTimeout: some hundred programs are run, on an emulated processor.
const takeTimeout = 4 * time.Minute

// mark separates sections in what the script prints, and is in none of them.
const mark = "@@outlook@@ "

// Take records interfaces, after the addresses that are still being tried
// (IPv6 duplicate address detection) have settled.
func Take(ctx context.Context, h *lab.Host, names ...string) (*Outlook, error) {
	var script strings.Builder
	script.WriteString("for i in $(seq 100); do ip -6 addr show tentative | grep -q tentative || break; sleep 0.1; done\n")
	all := map[string]section{}
	add := func(title string, s section, command string) {
		all[title] = s
		fmt.Fprintf(&script, "echo; echo '%s%s'; %s 2>&1; echo; echo \"%sstatus $?\"\n", mark, title, command, mark)
	}
	for _, name := range names {
		for _, s := range perInterface {
			command := strings.ReplaceAll(s.command, "DEV", name)
			if strings.HasPrefix(command, "ethtool ") {
				// Of VLANs and bridges it has nothing to say that is not the card's.
				command = "test ! -e /sys/class/net/" + name + "/device || " + command
			}
			add(name+": "+s.title(), s, command)
		}
	}
	for _, s := range perHost {
		add(s.title(), s, s.command)
	}
	r, err := h.Run(ctx, lab.Cmd{Argv: []string{"sh", "-c", script.String()}, Timeout: takeTimeout})
	if err != nil {
		return nil, fmt.Errorf("recording what others see: %w", err)
	}
	o := &Outlook{State: map[string]string{}, Counters: map[string]uint64{}}
	for title, text := range split(string(r.Stdout)) {
		s, ok := all[title]
		if !ok {
			continue
		}
		o.add(title, s, text)
	}
	if len(o.State) != len(all) {
		return nil, fmt.Errorf("recording what others see: %d of %d sections came; status %d: %s", len(o.State), len(all), r.Code, r.Stderr)
	}
	return o, nil
}

// split takes the script's output apart. The status of a command is part of its
// text if it is not 0.
func split(out string) map[string]string {
	texts := map[string]string{}
	title := ""
	for line := range strings.Lines(out) {
		rest, marked := strings.CutPrefix(strings.TrimRight(line, "\n"), mark)
		switch status, isStatus := strings.CutPrefix(rest, "status "); {
		case !marked:
			texts[title] += line
		case isStatus && status != "0":
			texts[title] += rest + "\n"
		case !isStatus:
			title = rest
			texts[title] = ""
		}
	}
	return texts
}

func (o *Outlook) add(title string, s section, text string) {
	var state []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n")
		for _, n := range s.normalise {
			line = n.expr.ReplaceAllString(line, n.by)
		}
		if strings.TrimSpace(line) == "" || s.drop != nil && s.drop.MatchString(line) {
			continue
		}
		if m := s.counter; m != nil {
			if f := m.FindStringSubmatch(line); f != nil {
				if n, err := strconv.ParseUint(f[2], 10, 64); err == nil {
					o.Counters[title+" "+strings.TrimSpace(f[1])] = n
					continue
				}
			}
		}
		state = append(state, line)
	}
	if s.parse != nil {
		counters, err := s.parse(text)
		if err != nil {
			// What is no list of counters is state: an error, for instance.
			o.State[title] = strings.Join(state, "\n")
			return
		}
		for name, n := range counters {
			o.Counters[title+" "+name] = n
		}
		o.State[title] = ""
		return
	}
	if s.sorted {
		sort.Strings(state)
	}
	o.State[title] = strings.Join(state, "\n")
}
