// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/manifest"
)

func (x *exchange) host(ctx context.Context, module string) error { return nil }

func (x *exchange) compatible(ctx context.Context, m *manifest.Manifest) (string, error) {
	return "", nil
}

func (x *exchange) shipped(module string) ([]byte, error) {
	release, err := x.h.Kernel.Release()
	if err != nil {
		return nil, err
	}
	t, err := kmodule.Open(x.h.Kernel.Path("/lib/modules", release))
	if err != nil {
		return nil, err
	}
	m, err := t.Load(module)
	if err != nil {
		return nil, err
	}
	return m.Image, nil
}
