// SPDX-License-Identifier: Apache-2.0

// Package sign makes and verifies the signatures of updates. There are two
// kinds, and an update may have both:
//
//   - the kernel's own (Kernel): a PKCS#7 message appended to the module
//     (Documentation/admin-guide/module-signing.rst), which the kernel itself
//     checks when it enforces signatures;
//   - minisign's (Minisign): an Ed25519 signature in the file NAME.ko.minisig, in
//     the format of minisign(1), over the module without what is appended to it, so
//     that either may be made first.
//
// What a host demands is its policy. The package needs no privilege and knows no
// running kernel.
package sign

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lupatch/lupatch/internal/refuse"
)

// Kind is a kind of signature, and of the keys that make it.
type Kind string

const (
	// Kernel is the kernel's module signature.
	Kernel Kind = "kernel"
	// Minisign is an Ed25519 signature beside the file.
	Minisign Kind = "minisign"
)

// State is what a signature is worth to a host.
type State string

const (
	// Trusted: it is right, and the host trusts the key.
	Trusted State = "trusted"
	// Untrusted: the host does not have the key, so that it cannot be checked.
	Untrusted State = "untrusted"
	// Wrong: it cannot be read, or it is one of a trusted key for another file.
	Wrong State = "wrong"
)

// Signature is one that was found.
type Signature struct {
	Kind  Kind  `json:"kind"`
	State State `json:"state"`
	// Key names the key: its identifier for minisign, subject (of a trusted
	// certificate) or issuer and serial number for the kernel. Empty if the
	// signature cannot be read.
	Key string `json:"key,omitempty"`
	// TrustedBy is the file in which the host keeps the key.
	TrustedBy string `json:"trusted_by,omitempty"`
	// Comment is minisign's trusted comment, once it is verified.
	Comment string `json:"comment,omitempty"`
	// Detail says what is wrong.
	Detail string `json:"detail,omitempty"`
}

// String is a sentence without a full stop.
func (s Signature) String() string {
	text := string(s.Kind) + " signature"
	if s.Key != "" {
		text += " by " + s.Key
	}
	switch s.State {
	case Trusted:
		text += ", trusted by " + s.TrustedBy
	case Untrusted:
		text += ", which this host does not trust"
	default:
		text += ": " + s.Detail
	}
	return text
}

// Examine finds the signatures of a module file and says what they are worth.
// minisig is the content of the file beside it, nil if there is none. Dates in
// certificates are not looked at: the kernel does not look at them either, as a
// host may have no clock when it loads modules.
func Examine(file, minisig []byte, t *Trust) []Signature {
	var list []Signature
	body, der, err := Split(file)
	switch {
	case err != nil:
		// What was signed cannot be told from the signature.
		return []Signature{{Kind: Kernel, State: Wrong, Detail: err.Error()}}
	case der != nil:
		list = append(list, verifyKernel(body, der, t))
	}
	if minisig != nil {
		list = append(list, verifyMinisign(body, file, minisig, t))
	}
	return list
}

// mostBytes bounds what is read here. The largest, a bundle of certificates, has
// about 300 kB.
const mostBytes = 1 << 20

// readSmall reads a regular file of configuration whole. The error is that of the
// file system, or a sentence.
func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return readBounded(path)
}

// readBounded reads a pipe, too, as a shell makes one for what a program writes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	if err == nil && len(b) > mostBytes {
		return nil, fmt.Errorf("it has more than %d bytes", mostBytes)
	}
	return b, err
}

// exposed says that others than the owner may do with a file what they should
// not; empty if all is well.
func exposed(path string, mode os.FileMode, what string) string {
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&mode == 0 {
		return ""
	}
	return fmt.Sprintf("%s can be %s by others than its owner (its mode is %04o)", path, what, st.Mode().Perm())
}

// at puts a file's name to the error of reading it.
func at(id refuse.ID, path string, err error) error {
	if e, ok := err.(*os.PathError); ok {
		err = e.Err
	}
	return refuse.New(id, path, "%s", err)
}
