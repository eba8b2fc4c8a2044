{{- define "holdfast.fullname" -}}
{{- if contains "holdfast" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-holdfast" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{/* Labels of one service: (dict "root" $ "name" "svc-ota"). */}}
{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Address of a service's Service: (dict "root" $ "name" "svc-ota" "port" 8443). */}}
{{- define "holdfast.address" -}}
{{ include "holdfast.fullname" .root }}-{{ .name }}.{{ .root.Release.Namespace }}.svc:{{ .port }}
{{- end -}}

{{- define "holdfast.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* The restricted profile of the Pod Security Standards. */}}
{{- define "holdfast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "holdfast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "holdfast.brokerUrl" -}}
{{- if .Values.broker.external -}}{{ .Values.broker.url }}{{- else -}}mqtts://{{ include "holdfast.address" (dict "root" . "name" "svc-broker" "port" 8885) }}{{- end -}}
{{- end -}}

{{- define "holdfast.controlUrls" -}}
{{- if .Values.broker.external -}}{{ join "," .Values.broker.controlUrls }}{{- else -}}https://{{ include "holdfast.address" (dict "root" . "name" "svc-broker" "port" 8443) }}{{- end -}}
{{- end -}}

{{/* One variable of a Secret: (dict "name" "HOLDFAST_X" "secret" "s" "key" "k"). */}}
{{- define "holdfast.secretEnv" -}}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .key }} } }
{{- end -}}

{{/* The whole environment of a service: (dict "root" $ "short" "ota" "name" "svc-ota" "env" {...}). */}}
{{- define "holdfast.env" -}}
{{- $v := .root.Values -}}
- { name: HOLDFAST_GRPC_LISTEN, value: "0.0.0.0:8443" }
- { name: HOLDFAST_METRICS_LISTEN, value: "0.0.0.0:9090" }
- { name: HOLDFAST_TLS_CERT, value: /etc/holdfast/server/tls.crt }
- { name: HOLDFAST_TLS_KEY, value: /etc/holdfast/server/tls.key }
- { name: HOLDFAST_SERVICE_CERT, value: /etc/holdfast/client/tls.crt }
- { name: HOLDFAST_SERVICE_KEY, value: /etc/holdfast/client/tls.key }
- { name: HOLDFAST_SERVICE_CA, value: /etc/holdfast/ca/service-ca.pem }
- { name: HOLDFAST_SERVER_CA, value: /etc/holdfast/ca/server-ca.pem }
- { name: HOLDFAST_LOG, value: {{ $v.log | quote }} }
{{- if $v.otlpEndpoint }}
- { name: HOLDFAST_OTLP_ENDPOINT, value: {{ $v.otlpEndpoint | quote }} }
{{- end }}
{{- if ne .short "registry" }}
- { name: HOLDFAST_REGISTRY_URL, value: "https://{{ include "holdfast.address" (dict "root" .root "name" "svc-registry" "port" 8443) }}" }
{{- end }}
{{- if eq .short "broker" }}
- { name: HOLDFAST_DEVICE_LISTEN, value: "0.0.0.0:8883" }
- { name: HOLDFAST_ENROLL_LISTEN, value: "0.0.0.0:8884" }
- { name: HOLDFAST_SERVICE_LISTEN, value: "0.0.0.0:8885" }
{{- else }}
{{ include "holdfast.secretEnv" (dict "name" "HOLDFAST_POSTGRES_URL" "secret" $v.postgres.existingSecret "key" (printf "%s-url" .short)) }}
- { name: HOLDFAST_BROKER_URL, value: {{ include "holdfast.brokerUrl" .root | quote }} }
{{- end }}
{{- if has .short (list "registry" "ota") }}
{{ include "holdfast.secretEnv" (dict "name" "HOLDFAST_REDIS_URL" "secret" $v.redis.existingSecret "key" "url") }}
- { name: HOLDFAST_MASTER_KEY_FILE, value: /etc/holdfast/master/key }
{{- end }}
{{- if eq .short "registry" }}
- { name: HOLDFAST_BROKER_CONTROL_URLS, value: {{ include "holdfast.controlUrls" .root | quote }} }
- { name: HOLDFAST_DEVICE_ADDRESS, value: {{ $v.addresses.device | quote }} }
- { name: HOLDFAST_ENROLL_ADDRESS, value: {{ $v.addresses.enroll | quote }} }
{{- end }}
{{- if eq .short "debug-relay" }}
# Replicas pass calls on to the one that holds a session: by the pod's address, and the Service's name in the certificate they share.
- { name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
- { name: HOLDFAST_ADVERTISE_URL, value: "https://$(POD_IP):8443" }
- { name: HOLDFAST_ADVERTISE_NAME, value: {{ include "holdfast.fullname" .root }}-svc-debug-relay.{{ .root.Release.Namespace }}.svc }
{{- end }}
{{- if eq .short "ota" }}
- { name: HOLDFAST_S3_ENDPOINT, value: {{ $v.s3.endpoint | quote }} }
- { name: HOLDFAST_S3_BUCKET, value: {{ $v.s3.bucket | quote }} }
- { name: HOLDFAST_S3_REGION, value: {{ $v.s3.region | quote }} }
{{ include "holdfast.secretEnv" (dict "name" "HOLDFAST_S3_ACCESS_KEY" "secret" $v.s3.existingSecret "key" "access-key") }}
{{ include "holdfast.secretEnv" (dict "name" "HOLDFAST_S3_SECRET_KEY" "secret" $v.s3.existingSecret "key" "secret-key") }}
{{- end }}
{{- range $key, $value := .env }}
- { name: HOLDFAST_{{ $key }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end -}}

{{- define "holdfast.volumeMounts" -}}
- { name: server, mountPath: /etc/holdfast/server, readOnly: true }
- { name: client, mountPath: /etc/holdfast/client, readOnly: true }
- { name: ca, mountPath: /etc/holdfast/ca, readOnly: true }
{{- if has .short (list "registry" "ota") }}
- { name: master, mountPath: /etc/holdfast/master, readOnly: true }
{{- end }}
{{- end -}}

{{- define "holdfast.volumes" -}}
{{- $v := .root.Values -}}
- { name: server, secret: { secretName: {{ $v.tls.secretPrefix }}-{{ .name }}-server, defaultMode: 0440 } }
- { name: client, secret: { secretName: {{ $v.tls.secretPrefix }}-{{ .name }}-client, defaultMode: 0440 } }
- { name: ca, secret: { secretName: {{ $v.tls.caSecret }}, defaultMode: 0440 } }
{{- if has .short (list "registry" "ota") }}
- { name: master, secret: { secretName: {{ $v.masterKeys.existingSecret }}, defaultMode: 0440, items: [{ key: {{ .short }}, path: key }] } }
{{- end }}
{{- end -}}

{{/* Every service there is, as a YAML list of {short, replicas, resources, env}: one more service is one more line. */}}
{{- define "holdfast.services" -}}
{{- range $short := list "registry" "ota" "logs" "debug-relay" }}
{{- $own := index $.Values.services $short }}
- { short: {{ $short }}, replicas: {{ $own.replicas }}, resources: {{ $own.resources | default dict | toJson }}, env: {{ $own.env | default dict | toJson }} }
{{- end }}
{{- if not .Values.broker.external }}
- { short: broker, replicas: 1, resources: {{ .Values.broker.resources | default dict | toJson }}, env: {{ .Values.broker.env | default dict | toJson }} }
{{- end }}
{{- end -}}

{{/* One container that migrates one schema and ends. */}}
{{- define "holdfast.migration" -}}
- name: {{ .name }}
  image: {{ include "holdfast.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [migrate]
  securityContext: {{- include "holdfast.containerSecurity" . | nindent 4 }}
  env: {{- include "holdfast.env" . | nindent 4 }}
  resources: { requests: { cpu: 50m, memory: 32Mi }, limits: { memory: 256Mi } }
  volumeMounts:
    - { name: {{ .short }}-server, mountPath: /etc/holdfast/server, readOnly: true }
    - { name: {{ .short }}-client, mountPath: /etc/holdfast/client, readOnly: true }
    - { name: ca, mountPath: /etc/holdfast/ca, readOnly: true }
    {{- if has .short (list "registry" "ota") }}
    - { name: {{ .short }}-master, mountPath: /etc/holdfast/master, readOnly: true }
    {{- end }}
{{- end -}}
