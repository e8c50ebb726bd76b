// SPDX-License-Identifier: Apache-2.0

package update

import (
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// Verdict is what an update's signatures are worth to a host.
type Verdict struct {
	Update     string           `json:"update"`
	Signatures []sign.Signature `json:"signatures"`
	// Require is what the host's policy demands.
	Require sign.Requirement `json:"require"`
	// Kernel says in a few words why the kernel, too, demands a signature; empty
	// if it does not.
	Kernel string `json:"kernel_enforces,omitempty"`
	// KernelHasKey says whether the kernel has the key of a trusted kernel
	// signature, as far as /proc/keys tells.
	KernelHasKey *bool `json:"kernel_has_key,omitempty"`
	// Warnings are sentences on an update that is accepted, and on files of the
	// policy that others than root could alter.
	Warnings []string `json:"warnings,omitempty"`
	// Refused is why the host does not take it; nil if it does.
	Refused *refuse.Error `json:"refused,omitempty"`

	minisig []byte
}

// Verify says whether this host accepts the signatures of the update file at
// path. It needs no privilege. The refusals that are not in the verdict are those
// of manifest.ReadUpdate, sign.ReadMinisig and sign.ReadPolicy.
func (h *Host) Verify(path string) (*Verdict, error) {
	image, m, err := manifest.ReadUpdate(path)
	if err != nil {
		return nil, err
	}
	return h.vouch(path, image, m)
}

// vouch looks at the signatures of an update file whose content is image: what
// is verified is what will be loaded, not what the file holds by then. The files
// of the store are looked at in the same way when they are applied again.
func (h *Host) vouch(path string, image []byte, m *manifest.Manifest) (*Verdict, error) {
	policy, err := sign.ReadPolicy(h.Root)
	if err != nil {
		return nil, err
	}
	minisig, err := sign.ReadMinisig(path)
	if err != nil {
		return nil, err
	}
	v := &Verdict{Update: m.Name, Signatures: sign.Examine(image, minisig, policy.Trust), Require: policy.Require, Kernel: h.Kernel.Enforces(), minisig: minisig}
	if v.Signatures == nil {
		v.Signatures = []sign.Signature{}
	}
	err = policy.Check(path, v.Signatures)
	if err == nil && v.Kernel != "" && !manifest.Signed(image) {
		e := refuse.New(refuse.SignatureMissing, path, "the kernel takes only modules signed with a key that it has, as %s, and this one has no kernel signature", v.Kernel)
		e.Remedy = "sign it (`lupatch sign FILE.ko --key KEY.pem`) with a key that the kernel has, such as a machine owner key (mokutil --import)"
		err = e
	}
	if e, ok := refuse.As(err); ok {
		v.Refused = e
		return v, nil
	}
	h.askKernel(v, policy)
	// Where the kernel insists on a signature it looks at whose it is.
	if w := policy.Warning(v.Signatures); w != "" && v.Kernel == "" {
		v.Warnings = append(v.Warnings, path+": "+w)
	}
	v.Warnings = append(v.Warnings, policy.Exposed...)
	return v, err
}

// askKernel finds out whether the kernel has the key, if that can be seen.
func (h *Host) askKernel(v *Verdict, policy *sign.Policy) {
	for _, s := range v.Signatures {
		for _, c := range policy.Trust.Certificates {
			if s.Kind != sign.Kernel || s.State != sign.Trusted || s.Key != c.Name() {
				continue
			}
			if has, known, err := h.Kernel.HasKey(c.Certificate); err == nil && known {
				v.KernelHasKey = &has
			}
			return
		}
	}
}

// vouchedFor gives the first refusal.
func vouchedFor(list []*livepatch) error {
	for _, l := range list {
		if l.verdict.Refused != nil {
			return l.verdict.Refused
		}
	}
	return nil
}

// renamable checks that the update may be loaded under another name than its
// own, which breaks the kernel's signature, though not ours: that one has been
// verified by then.
func (l *livepatch) renamable() error {
	why := l.h.Kernel.Enforces()
	if why == "" {
		return nil
	}
	e := refuse.New(refuse.LoadRefused, l.manifest.Name,
		"an earlier copy of it has to stay in memory, so that it would be loaded as %s; that breaks its signature, and the kernel takes only signed modules, as %s", l.module, why)
	e.Remedy = "build and sign the update again under another name (--name), or apply it after the next boot"
	return e
}
