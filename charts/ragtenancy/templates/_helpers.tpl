{{- /* Name of every object of this release. */ -}}
{{- define "ragtenancy.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ragtenancy.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (printf "%s-operator" (include "ragtenancy.fullname" .)) -}}
{{- end -}}

{{- define "ragtenancy.selector" -}}
app.kubernetes.io/name: ragtenancy-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* app.kubernetes.io/managed-by is Helm's here: what the operator makes says "ragtenancy". */ -}}
{{- define "ragtenancy.labels" -}}
{{ include "ragtenancy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ragtenancy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
