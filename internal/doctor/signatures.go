// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// signatures finds out whether the kernel takes unsigned modules.
func (h *Host) signatures(r *Report) {
	why := h.Kernel.Enforces()
	if why == "" {
		r.add(Apply, "module signatures", OK, "not enforced by the kernel: it takes unsigned updates", "")
		return
	}
	r.add(Apply, "module signatures", Warn, "the kernel takes only updates signed with a key that it has, as "+why,
		"sign updates (`lupatch sign --help`) with a key that the kernel has: a machine owner key (mokutil --import), or one of the firmware's db")
}

// policy says what the host demands itself.
func (h *Host) policy(r *Report) {
	const name, edit = "signature policy", "see `lupatch verify --help`"
	p, err := sign.ReadPolicy(h.Kernel.Root)
	if err != nil {
		detail := err.Error()
		if e, ok := refuse.As(err); ok {
			detail = e.Where + ": " + e.Detail
		}
		r.add(Apply, name, Fail, detail, "correct the file, "+edit)
		return
	}
	keys := fmt.Sprintf("%d minisign keys and %d certificates are trusted", len(p.Trust.PublicKeys), len(p.Trust.Certificates))
	if len(p.Trust.Ignored) > 0 {
		keys += "; not looked at: " + strings.Join(p.Trust.Ignored, ", ")
	}
	for _, e := range p.Exposed {
		r.add(Apply, "policy files", Warn, e, "chmod go-w FILE")
	}
	switch lacking := p.Unsatisfiable(); {
	case p.Require == sign.None:
		r.add(Apply, name, OK, "none: updates that nobody signed are taken, with a warning; "+keys, "")
	case lacking != "":
		r.add(Apply, name, Fail, fmt.Sprintf("it requires %s, but %s: no update can be applied", p.Require, lacking), "put the signer's key into "+sign.TrustedDir+", "+edit)
	default:
		r.add(Apply, name, OK, fmt.Sprintf("it requires %s; %s", p.Require, keys), "")
	}
}

// namespace checks that all tasks can be seen.
func (h *Host) namespace(r *Report) {
	if e, ok := refuse.As(h.Kernel.SeesAllTasks()); ok {
		r.add(Apply, "tasks", Fail, e.Detail, e.Advice())
		return
	}
	r.add(Apply, "tasks", OK, "all of the host's can be seen", "")
}
