// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Where a host keeps what it demands of updates.
const (
	// PolicyPath has the line "require = any" or the like.
	PolicyPath = "/etc/lupatch/policy"
	// TrustedDir has the keys that count.
	TrustedDir = "/etc/lupatch/trusted.d"
)

// Requirement is which signatures an update must have.
type Requirement string

const (
	// None: an update without a trusted signature is applied, with a warning.
	// Also without a policy file.
	None Requirement = "none"
	// Any: one of either kind.
	Any Requirement = "any"
	// Both: one of each kind.
	Both Requirement = "both"
	// RequireMinisign and RequireKernel: one of that kind.
	RequireMinisign Requirement = Requirement(Minisign)
	RequireKernel   Requirement = Requirement(Kernel)
)

var requirements = []Requirement{None, RequireMinisign, RequireKernel, Any, Both}

// Policy is what a host demands of updates, and whom it trusts.
type Policy struct {
	Require Requirement
	Trust   *Trust
	// Exposed are sentences on files that others than root could alter.
	Exposed []string
}

// ReadPolicy reads the policy of the host whose file system is at root. A file
// that cannot be read or understood is a refuse.PolicyWrong, never a policy that
// demands nothing.
func ReadPolicy(root string) (*Policy, error) {
	p := &Policy{Require: None}
	path := filepath.Join(root, PolicyPath)
	text, err := readSmall(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, at(refuse.PolicyWrong, path, err)
	default:
		if p.Require, err = parsePolicy(string(text)); err != nil {
			return nil, at(refuse.PolicyWrong, path, err)
		}
		if s := exposed(path, 0o022, "written"); s != "" {
			p.Exposed = append(p.Exposed, s)
		}
	}
	if p.Trust, err = readTrust(filepath.Join(root, TrustedDir)); err != nil {
		return nil, err
	}
	p.Exposed = append(p.Exposed, p.Trust.Exposed...)
	return p, nil
}

// parsePolicy reads lines "NAME = VALUE", of which "#" begins a comment. There
// is one name, require; it may not be missing.
func parsePolicy(text string) (Requirement, error) {
	var require Requirement
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			return "", fmt.Errorf("line %d is not of the form NAME = VALUE", i+1)
		case name != "require":
			return "", fmt.Errorf("line %d sets %q, which lupatch does not know", i+1, printable(name))
		case require != "":
			return "", fmt.Errorf("line %d sets require again", i+1)
		case !slices.Contains(requirements, Requirement(value)):
			return "", fmt.Errorf("line %d: require is none, minisign, kernel, any or both, not %q", i+1, printable(value))
		}
		require = Requirement(value)
	}
	if require == "" {
		return "", errors.New("it does not say what to require")
	}
	return require, nil
}

// Check says whether the host takes an update with these signatures: nil, or a
// refuse.SignatureMissing, SignatureUntrusted or SignatureWrong that has where as
// its place. A signature that is wrong is refused whatever is required, as the
// kernel does.
func (p *Policy) Check(where string, list []Signature) error {
	state := make(map[Kind]State)
	for _, s := range list {
		if s.State == Wrong {
			return refuse.New(refuse.SignatureWrong, where, "%s", s)
		}
		state[s.Kind] = s.State
	}
	lacks := func(kinds ...Kind) error {
		for _, k := range kinds {
			for _, s := range list {
				if s.Kind == k {
					return refuse.New(refuse.SignatureUntrusted, where, "%s", s)
				}
			}
		}
		what := "a " + string(kinds[0]) + " signature"
		if len(kinds) > 1 {
			what = "a signature"
		}
		return refuse.New(refuse.SignatureMissing, where, "this host requires %s (%s), and it has none", what, PolicyPath)
	}
	need := func(k Kind) error {
		if state[k] == Trusted {
			return nil
		}
		return lacks(k)
	}
	switch p.Require {
	case RequireMinisign:
		return need(Minisign)
	case RequireKernel:
		return need(Kernel)
	case Both:
		if err := need(Kernel); err != nil {
			return err
		}
		return need(Minisign)
	case Any:
		if state[Minisign] == Trusted || state[Kernel] == Trusted {
			return nil
		}
		return lacks(Minisign, Kernel)
	}
	return nil
}

// Warning says what speaks against an update that Check accepts; empty if
// somebody whom the host trusts has signed it.
func (p *Policy) Warning(list []Signature) string {
	text := "nobody signed it"
	for _, s := range list {
		if s.State == Trusted {
			return ""
		}
		text = s.String()
	}
	return text + "; nothing shows where it comes from"
}

// Unsatisfiable says why no update at all can satisfy the policy, for want of
// trusted keys; empty if one can.
func (p *Policy) Unsatisfiable() string {
	minisign, kernel := len(p.Trust.PublicKeys) > 0, len(p.Trust.Certificates) > 0
	switch {
	case p.Require == Any && !minisign && !kernel:
		return "no key is trusted"
	case (p.Require == RequireMinisign || p.Require == Both) && !minisign:
		return "no minisign key is trusted"
	case (p.Require == RequireKernel || p.Require == Both) && !kernel:
		return "no certificate is trusted"
	}
	return ""
}
