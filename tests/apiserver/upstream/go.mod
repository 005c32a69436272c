module persistip.dev/tests/upstream

go 1.26.0

require (
	github.com/GoogleCloudPlatform/gke-networking-api v0.2.11
	sigs.k8s.io/gateway-api v1.6.3
)
