{{/* The name of all objects: that of the release, with "uwsgibridge" in it. */}}
{{- define "uwsgibridge.name" -}}
{{- if contains "uwsgibridge" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-uwsgibridge" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What selects the pods. */}}
{{- define "uwsgibridge.selector" -}}
app.kubernetes.io/name: uwsgibridge
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "uwsgibridge.labels" -}}
{{ include "uwsgibridge.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "uwsgibridge.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.tag }}:{{ . }}{{ end }}
{{- end -}}

{{/* Nginx, with a deadline for processes that a reload has replaced: from the end of the preStop hook on, 5 s are left
     of the drain delay, and requests have their time, and 5 s are to spare. */}}
{{- define "uwsgibridge.nginx" -}}
nginx -e stderr -c /etc/uwsgibridge/nginx.conf -g 'daemon off; worker_shutdown_timeout {{ add (int .Values.gracefulTimeoutSeconds) 10 }}s;'
{{- end -}}

{{/* Options that the Deployment gives on the command line, which goes before a variable: the value to set instead. */}}
{{- define "uwsgibridge.refused" -}}
UWSGIBRIDGE_APP: app
UWSGIBRIDGE_DRAIN_DELAY_SECONDS: drainDelaySeconds
UWSGIBRIDGE_GRACEFUL_TIMEOUT_SECONDS: gracefulTimeoutSeconds
UWSGIBRIDGE_BIND: ""
UWSGIBRIDGE_STATUS_BIND: ""
UWSGIBRIDGE_SOCKET_MODE: ""
UWSGIBRIDGE_FRONTEND_BUFFER_BYTES: ""
{{- end -}}
