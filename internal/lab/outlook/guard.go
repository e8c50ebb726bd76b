// SPDX-License-Identifier: Apache-2.0

package outlook

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lupatch/lupatch/internal/lab"
)

// Guard is a set of nftables rules that know an interface by its name, as a
// host's firewall does. Packets from and to an address that only that interface
// leads to are counted: those that the rules matched, and those that slipped
// past them.
type Guard struct {
	h *lab.Host
}

// Counts of a guard.
type Counts struct {
	OutMatched, OutSlipped uint64
	InMatched, InSlipped   uint64
}

const guardTable = "inet lupatch_guard"

// StartGuard puts the rules in place. The guest's kernel needs nf_tables among
// its modules.
func StartGuard(ctx context.Context, h *lab.Host, device, address string) (*Guard, error) {
	if err := h.Modprobe(ctx, "nf_tables", ""); err != nil {
		return nil, fmt.Errorf("guarding %s: %w", device, err)
	}
	rules := fmt.Sprintf(`table %s {
	chain out {
		type filter hook output priority 0; policy accept;
		ip daddr %[3]s oifname "%[2]s" counter accept comment "out_matched"
		ip daddr %[3]s counter comment "out_slipped"
	}
	chain in {
		type filter hook input priority 0; policy accept;
		ip saddr %[3]s iifname "%[2]s" counter accept comment "in_matched"
		ip saddr %[3]s counter comment "in_slipped"
	}
}
`, guardTable, device, address)
	r, err := h.Run(ctx, lab.Cmd{Argv: []string{"nft", "-f", "-"}, Stdin: strings.NewReader(rules)})
	if err != nil {
		return nil, fmt.Errorf("guarding %s: %w", device, err)
	}
	if r.Code != 0 {
		return nil, fmt.Errorf("guarding %s: nft: status %d: %s", device, r.Code, r.Stderr)
	}
	return &Guard{h: h}, nil
}

// Counts asks for the packets counted so far.
func (g *Guard) Counts(ctx context.Context) (c Counts, err error) {
	r, err := g.h.Exec(ctx, "nft", "-j", "list", "table", "inet", "lupatch_guard")
	if err != nil {
		return c, fmt.Errorf("counting what was guarded: %w", err)
	}
	if r.Code != 0 {
		return c, fmt.Errorf("counting what was guarded: nft: status %d: %s", r.Code, r.Stderr)
	}
	return parseCounts(r.Stdout)
}

func parseCounts(text []byte) (c Counts, err error) {
	var answer struct {
		Nftables []struct {
			Rule *struct {
				Comment string
				Expr    []struct {
					Counter *struct{ Packets uint64 }
				}
			}
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return c, fmt.Errorf("reading nft's counters: %w", err)
	}
	into := map[string]*uint64{"out_matched": &c.OutMatched, "out_slipped": &c.OutSlipped, "in_matched": &c.InMatched, "in_slipped": &c.InSlipped}
	found := 0
	for _, e := range answer.Nftables {
		if e.Rule == nil || into[e.Rule.Comment] == nil {
			continue
		}
		for _, x := range e.Rule.Expr {
			if x.Counter != nil {
				*into[e.Rule.Comment] = x.Counter.Packets
				found++
			}
		}
	}
	if found != len(into) {
		return c, fmt.Errorf("reading nft's counters: %d of %d are there", found, len(into))
	}
	return c, nil
}
